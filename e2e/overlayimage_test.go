package e2e

import (
	"fmt"
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
	h.fails(1, []string{noImage}, "boxrun", "profile", "check", "first")
	sizedImage(h)
	h.same(before, append(stays(), `^/etc/boxrun/profiles`, `^/root/.apptainer`)...)

	h.profile("first", profile)
	h.sh("apptainer instance start --boot --net --network none --bind /sys/fs/cgroup --overlay /var/images/web.img /srv/web byhand")
	h.refuses(1, []string{`"/var/images/web.img" is in use, and not by a box`}, "boxrun", "up", "first")
}

// An image with a size is made by up, grown when the size grew, and never shrunk; a killed up leaves the image as before.
func sizedImage(h host) {
	const image = "/var/images/new/sized.img"
	size := func(size string) {
		h.profile("first", strings.Replace(keeping(image), "[storage]", "network.mode = \"none\"\n[storage]\noverlay_size = \""+size+"\"", 1))
	}
	up := func(want string) {
		h.t.Helper()
		if r := h.run("boxrun", "up", "first"); r.Code != 0 || !strings.Contains(r.Stderr, want) || want == "" && strings.Contains(r.Stderr, image) {
			h.t.Errorf("up: %v, want %q", r, want)
		}
	}
	typed := func(want string) {
		h.t.Helper()
		if r := h.run("boxrun", "up", "--dry-run", "first"); !strings.Contains(r.Stdout, want) {
			h.t.Errorf("dry run: %v, want %q", r, want)
		}
	}
	size("15T")
	const room = "storage.overlay_size: 15T takes 15728640M of the file system of \"" + image + "\", where "
	h.refuses(1, []string{room}, "boxrun", "up", "first")
	h.fails(1, []string{room}, "boxrun", "profile", "check", "first")
	size("64M")
	h.sh("mv /usr/sbin/mkfs.ext3 /root")
	h.refuses(1, []string{"storage.overlay_size: this host has no mkfs.ext3"}, "boxrun", "up", "first")
	h.sh("mv /root/mkfs.ext3 /usr/sbin")

	typed("\nmkfs.ext3 -q -F -b 4096 " + image + ".boxrun-new\nsync ")
	up("first: made the overlay image " + image + " of 64M\n")
	h.must("boxrun", "exec", "first", "--", "sh", "-c", "echo kept > /etc/mark; sync")
	h.gives("600 67108864\n", "stat", "-c", "%a %s", image)
	h.sh("[ $(stat -c %b " + image + ") -lt 65536 ]") // sparse
	size("256M")
	h.sh("boxrun diff first | grep 'storage.overlay_size: \"64M\" -> \"256M\"'")
	h.must("boxrun", "down", "first")
	typed("\nresize2fs " + image + ".boxrun-new\n")
	h.sh("boxrun up first & for i in $(seq 2000); do [ -s " + image + ".boxrun-new ] && break; sleep 0.005; done; kill -9 $!; wait; boxrun down first")
	h.gives("sized.img\n", "ls", "/var/images/new")
	h.sh("if [ $(stat -c %s " + image + ") -gt 67108864 ]; then echo grown before the kill; exit 1; fi; e2fsck -f -n " + image)
	up("first: grew the overlay image " + image + " from 64M to 256M\n")
	h.gives("kept\n", "boxrun", "exec", "first", "--", "cat", "/etc/mark")
	h.sh("boxrun exec first -- sh -c \"head -c 100M /dev/zero > /srv/large\"")
	h.must("boxrun", "down", "first")
	up("")
	h.must("boxrun", "down", "first")

	size("64M")
	up("first: warning: storage.overlay_size: " + image + " stays at 256M, as nothing shrinks an image to 64M\n")
	h.gives("kept\n", "boxrun", "exec", "first", "--", "cat", "/etc/mark")
	h.must("boxrun", "down", "first")
	size("512M")
	h.sh("mv /usr/sbin/resize2fs /root")
	h.refuses(1, []string{"storage.overlay_size: this host has no resize2fs"}, "boxrun", "up", "first")
	h.sh("mv /root/resize2fs /usr/sbin; mkdir /var/images/dir")
	h.profile("first", "image = \"/srv/web\"\n[storage]\nroot = \"overlay\"\noverlay = \"/var/images/dir\"\noverlay_size = \"1G\"\n")
	h.refuses(1, []string{fmt.Sprintf("storage.overlay_size: is for an image, and %q is a directory", "/var/images/dir")}, "boxrun", "up", "first")
}
