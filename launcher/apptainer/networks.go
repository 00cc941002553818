package apptainer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Conflist holds the keys that boxrun reads of the configuration of a CNI network.
type Conflist struct {
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

// ReadConflist reads a conflist. A file without a name or without plugins is an error, as for Apptainer.
func ReadConflist(file string) (Conflist, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Conflist{}, err
	}
	var c Conflist
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	if c.Name == "" || len(c.Plugins) == 0 {
		return c, fmt.Errorf("%s: no name, or no plugins", file)
	}
	return c, nil
}

// LeaseDirs returns the directories with the leases of the site's own networks on a bridge: networks of the plugins
// bridge and host-local. site is the path of the site's apptainer.conf, conf the text. A conflist that cannot be read is
// left out: Apptainer cannot start anything from such a file either.
func LeaseDirs(site, conf, bridge string) []string {
	var dirs []string
	for _, file := range conflists(site, conf) {
		n, err := ReadConflist(file)
		if err != nil {
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
