package confine

import (
	"strings"
	"testing"

	"boxrun/launcher/testkit"
)

// A unit is named for each mount that systemd would unmount, once, by the name that systemd gives the unit.
func TestMountUnits(t *testing.T) {
	testkit.WantText(t, strings.Join(mountUnits(`
661 1 0:1 / / rw - overlay overlay rw
662 661 0:2 / /dev/shm rw - tmpfs tmpfs rw
663 661 0:3 / /proc rw - proc proc rw
664 661 0:4 / /run rw - tmpfs tmpfs rw
665 661 0:5 /a /etc/hosts rw - tmpfs tmpfs rw
666 665 0:5 /b /etc/hosts ro - tmpfs tmpfs rw
667 661 0:5 /c /etc/systemd/resolved.conf.d/90-boxrun.conf ro - tmpfs tmpfs rw
668 661 0:5 /d /srv/.two\040words\134 rw - ext4 /dev/vda rw
669 661 0:5 /e /developers rw - ext4 /dev/vda rw
670 661 0:5 /f /`[1:]+strings.Repeat("x", 250)+" rw - ext4 /dev/vda rw\n"), "\n"), `
etc-hosts.mount
etc-systemd-resolved.conf.d-90\x2dboxrun.conf.mount
srv-.two\x20words\x5c.mount
developers.mount`[1:])
}
