package storage

import (
	"os"
	"path/filepath"
	"testing"

	"boxrun/launcher/fault"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// The names are those of Debian, Enterprise Linux, and Arch.
func TestRefuseSystemd(t *testing.T) {
	for library, refused := range map[string]string{
		"usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so": "",
		"usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-258.so": "258",
		"usr/lib/systemd/libsystemd-shared-257-9.el10.so":           "",
		"usr/lib/systemd/libsystemd-shared-258-1.fc43.so":           "258",
		"usr/lib/systemd/libsystemd-shared-262.1-1.so":              "262",
		"usr/lib/systemd/libsystemd-shared-.so":                     "",
		"usr/lib/systemd/systemd":                                   "",
	} {
		image := t.TempDir()
		file := filepath.Join(image, library)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		p := profiles.Profile{File: "web.toml", Image: image}
		if err := RefuseSystemd(p, true); err != nil {
			t.Errorf("%s, on a host with the second version: %v", library, err)
		}
		err := RefuseSystemd(p, false)
		if refused == "" && err != nil {
			t.Errorf("%s: %v", library, err)
		}
		if refused != "" {
			testkit.WantText(t, err.Error(), "web.toml: image: \""+image+"\" has systemd "+refused+
				", which needs cgroups of the second version alone, and this host has version 1 or a mixture")
			testkit.WantText(t, fault.HintOf(err), "boot the host with systemd.unified_cgroup_hierarchy=1 on the kernel's command line, or take an image with systemd 257 or older")
		}
	}
}
