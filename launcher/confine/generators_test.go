package confine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/testkit"
)

// A generator is left out where what the generator reads is missing, and stays where the image has it, or a generator of
// its own by that name.
func TestIdleGenerators(t *testing.T) {
	const packaged = "usr/lib/systemd/system-generators/"
	for name, test := range map[string]struct {
		files string // FILE, or FILE=CONTENT
		idle  string
	}{
		"nothing to read": {packaged + "systemd-debug-generator", "systemd-debug-generator"},
		"a stranger's":    {packaged + "postgresql-generator", ""},
		"not merged":      {"lib/systemd/system-generators/systemd-gpt-auto-generator", "systemd-gpt-auto-generator"},
		"twice":           {packaged + "systemd-run-generator lib/systemd/system-generators/systemd-run-generator", "systemd-run-generator"},
		"its own":         {packaged + "systemd-run-generator etc/systemd/system-generators/systemd-run-generator", ""},
		"its own again":   {packaged + "systemd-run-generator usr/local/lib/systemd/system-generators/systemd-run-generator", ""},

		"no fstab":            {packaged + "systemd-fstab-generator", "systemd-fstab-generator"},
		"an fstab of remarks": {packaged + "systemd-fstab-generator etc/fstab=#UNCONFIGURED\n\n", "systemd-fstab-generator"},
		"an fstab":            {packaged + "systemd-fstab-generator etc/fstab=#\ntmpfs\t/t\ttmpfs\n", ""},
		"an fstab of a kind":  {packaged + "systemd-fstab-generator etc/fstab/x", ""},

		"no script":             {packaged + "systemd-sysv-generator etc/init.d/README=-", "systemd-sysv-generator"},
		"a script":              {packaged + "systemd-sysv-generator etc/init.d/old", ""},
		"a script with a unit":  {packaged + "systemd-sysv-generator etc/init.d/new.sh lib/systemd/system/new.service", "systemd-sysv-generator"},
		"a script of Red Hat's": {packaged + "systemd-sysv-generator etc/rc.d/init.d/old", ""},

		"no rc.local": {packaged + "systemd-rc-local-generator", "systemd-rc-local-generator"},
		"an rc.local": {packaged + "systemd-rc-local-generator etc/rc.local", ""},
		"an update":   {packaged + "systemd-system-update-generator system-update", ""},
		"a console":   {packaged + "systemd-getty-generator dev/console", ""},
		"a mapper":    {packaged + "systemd-cryptsetup-generator dev/mapper/control", ""},
	} {
		testkit.WantText(t, name+": "+fmt.Sprint(idleGenerators(imageWith(t, test.files))), name+": ["+test.idle+"]")
	}
}

// imageWith returns the root of an image with files, FILE for a program or FILE=CONTENT, and a space between them.
func imageWith(t *testing.T, files string) (root string) {
	t.Helper()
	root = t.TempDir()
	for file := range strings.SplitSeq(files, " ") {
		path, content, plain := strings.Cut(file, "=")
		mode := os.FileMode(0o755)
		if plain {
			mode = 0o644
		}
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
