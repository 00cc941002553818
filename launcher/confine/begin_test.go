package confine

import (
	"fmt"
	"testing"

	"boxrun/launcher/testkit"
)

// The journal's place is mounted late where the fstab or a unit of the image mounts it, or what is above.
func TestMountsLate(t *testing.T) {
	for files, want := range map[string]bool{
		"etc/hostname=web": false,
		"etc/fstab=#\ntmpfs\t/tmp\ttmpfs\n#x\t/var\text4\n": false,
		"etc/fstab=LABEL=v\t/var\text4\n":                   true,
		"etc/fstab=LABEL=v\t/var/log/\text4\n":              true,
		"etc/fstab=tmpfs\t/var/log/journal\ttmpfs\n":        true,
		"etc/fstab=tmpfs\t/var/lib\ttmpfs\nx\n":             false,
		"etc/fstab/x":                                       true,
		"etc/systemd/system/var.mount":                      true,
		"usr/lib/systemd/system/var-log.automount":          true,
		"lib/systemd/system/var-lib-machines.mount":         false,
	} {
		testkit.WantText(t, fmt.Sprint(files, ": ", mountsLate(imageWith(t, files))), fmt.Sprint(files, ": ", want))
	}
}

// Importers of the image find nothing where nothing is kept for them. Settings that a unit lacks are not reset, and an
// administrator's own unit is left alone.
func TestIdleImporters(t *testing.T) {
	const units = "lib/systemd/system/systemd-sysusers.service=[Service]\nLoadCredential=a\nLoadCredential=b\n " +
		"usr/lib/systemd/system/systemd-tmpfiles-setup.service=[Service]\nImportCredential=c.*\n "
	const both = `map["systemd-sysusers.service":"LoadCredential=\n" "systemd-tmpfiles-setup.service":"ImportCredential=\n"]`
	for files, want := range map[string]string{
		"lib/systemd/system/nginx.service=\nLoadCredential=a\n":                 both,
		"lib/systemd/system/systemd-journald.service=":                          both,
		"usr/lib/credstore/ssh.authorized_keys.root=":                           "map[]",
		"etc/credstore.encrypted/login.motd=":                                   "map[]",
		"etc/systemd/system/systemd-tmpfiles-setup.service=":                    `map["systemd-sysusers.service":"LoadCredential=\n"]`,
		"etc/systemd/system/systemd-tmpfiles-setup.service.d/own.conf=[Unit]\n": both,
	} {
		testkit.WantText(t, fmt.Sprintf("%s: %q", files, idleImporters(imageWith(t, units+files))), files+": "+want)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/creds")
	testkit.WantText(t, fmt.Sprint(idleImporters(imageWith(t, units+"etc/hostname="))), "map[]")
}
