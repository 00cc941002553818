package storage

import (
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"boxrun/launcher/fault"
	"boxrun/launcher/process"
	"boxrun/profiles"
)

// lastLegacy is the last version of systemd that runs on cgroups of the first version, alone or beside the second.
const lastLegacy = 257

// RefuseSystemd refuses a sandbox with a systemd that does not run on the cgroups of this host: newer than lastLegacy where
// unified is false. The systemd of a SIF, and of a sandbox that cannot be read, is unknown before it runs.
func RefuseSystemd(p profiles.Profile, unified bool) error {
	if unified || p.Image == "" {
		return nil
	}
	version := systemdIn(p.Image)
	if version <= lastLegacy {
		return nil
	}
	return fault.Refused(process.UnifiedHint+", or take an image with systemd 257 or older",
		"%s: image: %q has systemd %d, which needs cgroups of the second version alone, and this host has version 1 or a mixture",
		p.File, p.Image, version)
}

// systemdIn returns the version of systemd in a sandbox, by the name of systemd's own library; 0 if unknown.
func systemdIn(sandbox string) int {
	root, err := os.OpenRoot(sandbox)
	if err != nil {
		return 0
	}
	defer root.Close()
	for _, dir := range []string{"usr/lib", "usr/lib64", "usr/lib/*", "lib"} {
		names, _ := fs.Glob(root.FS(), dir+"/systemd/libsystemd-shared-*.so") // no such directory, no library
		for _, name := range names {
			number := strings.TrimPrefix(path.Base(name), "libsystemd-shared-") // then the distribution's release, as in 257-9.el10
			if end := strings.IndexFunc(number, func(r rune) bool { return r < '0' || r > '9' }); end > 0 {
				version, _ := strconv.Atoi(number[:end])
				return version
			}
		}
	}
	return 0
}
