package apptainer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
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
	dir := cmp.Or(Directive(conf, "cni configuration path"), filepath.Join(filepath.Dir(site), "network"))
	files, _ := filepath.Glob(filepath.Join(dir, "*.conflist")) // the pattern is well-formed but for a strange directory
	return files
}

// Directive returns the value of a directive in conf, the text of an apptainer.conf; "" for none.
func Directive(conf, name string) (found string) {
	for line := range strings.Lines(conf) {
		if key, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) == name {
			found = cmp.Or(strings.TrimSpace(value), found)
		}
	}
	return found
}

// Missing returns the CNI plugins among wanted that Apptainer will not find, and the directory that lacks the fewest of them.
// libexec is LIBEXECDIR of the build, set the "cni plugin path" of the site's apptainer.conf, "" for none; all is looked at below
// root.
func Missing(root, libexec, set string, wanted ...string) (missing []string, where string) {
	// The default directories of Apptainer, Debian and Fedora.
	dirs := []string{filepath.Join(libexec, "apptainer/cni"), "/usr/lib/cni", "/usr/libexec/cni"}
	if set != "" {
		dirs = []string{set}
	}
	missing, where = wanted, strings.Join(dirs, ", ")
	for _, dir := range dirs {
		absent := slices.DeleteFunc(slices.Clone(wanted), func(plugin string) bool {
			return unix.Access(filepath.Join(root, dir, plugin), unix.X_OK) == nil
		})
		if len(absent) < len(missing) {
			missing, where = absent, dir
		}
	}
	return missing, where
}

// Libexec returns LIBEXECDIR of the build of the apptainer at path.
func Libexec(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "buildcfg", "LIBEXECDIR").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the CNI plugins: running %s buildcfg LIBEXECDIR: %w", path, err)
	}
	return strings.TrimSpace(string(out)), nil
}
