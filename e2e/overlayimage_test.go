package e2e

import (
	"strings"
	"testing"
)

// An image of "apptainer overlay create" keeps what a box writes: with one box at a time, and checked after a crash.
func TestAnOverlayImage(t *testing.T) {
	h := newHost(t)
	h.sh("mkdir /var/images; apptainer overlay create --sparse --size 64 /var/images/web.img; echo text > /var/images/text")
	profile := strings.Replace(keeping("/var/images/web.img"), "[storage]", "network.mode = \"none\"\n[storage]", 1)
	h.profile("first", profile)
	h.profile("second", profile)
	before := h.dump()
	h.must("boxrun", "profile", "check", "first")
	h.must("boxrun", "up", "first")
	h.must("boxrun", "exec", "first", "--", "sh", "-c", "echo kept > /etc/mark; sync")
	h.refuses(1, []string{"storage.overlay", "/var/images/web.img", `"first"`}, "boxrun", "up", "second")
	h.sh("test -e /var/images/web.img.boxrun-owner.json")
	h.must("boxrun", "restart", "first") // its own it may have
	h.gives("kept\n", "boxrun", "exec", "first", "--", "cat", "/etc/mark")

	h.sh("pid=$(boxrun ps --json | jq '.[0].pid'); kill -9 $pid; while kill -0 $pid 2> /dev/null; do sleep 0.01; done; boxrun down first")
	h.gives("web.img\n", "sh", "-c", "ls /var/images | grep web")
	h.sh("printf '\\006' | dd of=/var/images/web.img bs=1 seek=1120 conv=notrunc status=none") // as a power loss leaves it: needs recovery
	if r := h.run("boxrun", "up", "--dry-run", "first"); !strings.Contains(r.Stdout, "\ne2fsck -p /var/images/web.img ||") {
		t.Errorf("dry run: %v, want e2fsck", r)
	}
	if r := h.run("boxrun", "up", "first"); r.Code != 0 || !strings.Contains(r.Stderr, "first: e2fsck: ") || !strings.Contains(r.Stderr, "recover") {
		t.Errorf("up after a power loss: %v, want the answer of e2fsck", r)
	}
	h.gives("kept\n", "boxrun", "exec", "first", "--", "cat", "/etc/mark")
	h.must("boxrun", "down", "first")
	if r := h.run("boxrun", "up", "first"); r.Code != 0 || strings.Contains(r.Stderr, "e2fsck") {
		t.Errorf("up after a down: %v, want no check", r)
	}
	h.must("boxrun", "down", "first")

	h.profile("first", keeping("/var/images/text"))
	const noImage = `storage.overlay: "/var/images/text" is a file, but no ext3 image`
	h.refuses(1, []string{noImage}, "boxrun", "up", "first")
	h.fails(1, []string{"first.toml: is valid\n", noImage}, "boxrun", "profile", "check", "first")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`, `^/root/.apptainer`)...)

	h.profile("first", profile)
	h.sh("apptainer instance start --boot --net --network none --bind /sys/fs/cgroup --overlay /var/images/web.img /srv/web byhand")
	h.refuses(1, []string{`"/var/images/web.img" is in use, and not by a box`}, "boxrun", "up", "first")
}
