package apptainer

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A network is what boxrun reads of a conflist of CNI.
type network struct {
	Name    string `json:"name"`
	Plugins []struct {
		Type   string `json:"type"`
		Bridge string `json:"bridge"`
		IPAM   struct {
			Type    string `json:"type"`
			DataDir string `json:"dataDir"`
		} `json:"ipam"`
	} `json:"plugins"`
}

// LeaseDirs returns the directories with the leases of the site's own networks on a bridge: networks of the plugins
// bridge and host-local. site is the path of the site's apptainer.conf, conf the text. A conflist that cannot be read is
// left out: Apptainer cannot start anything from such a file either.
func LeaseDirs(site, conf, bridge string) []string {
	var dirs []string
	for _, file := range conflists(site, conf) {
		var n network
		text, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(text, &n) != nil || n.Name == "" {
			continue
		}
		for _, p := range n.Plugins {
			if p.Type == "bridge" && p.Bridge == bridge && p.IPAM.Type == "host-local" {
				dirs = append(dirs, filepath.Join(cmp.Or(p.IPAM.DataDir, "/var/lib/cni/networks"), filepath.Base(n.Name)))
			}
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// conflists returns the site's own conflists.
func conflists(site, conf string) []string {
	dir := filepath.Join(filepath.Dir(site), "network")
	for line := range strings.Lines(conf) {
		if key, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) == "cni configuration path" {
			dir = cmp.Or(strings.TrimSpace(value), dir)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.conflist")) // the pattern is well-formed but for a strange directory
	return files
}
