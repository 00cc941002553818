package storage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/testkit"
	"boxrun/profiles"
	"boxrun/profiles/amount"
)

// The disk of an overlay image is a tmpfs of 96 MiB, in mounts of the test's own.
const diskSize = 96 << 20

// An image is made or grown only where there is room: a grown image is copied first, and what an interrupted growth has left
// is room.
func TestRefuseSmall(t *testing.T) {
	disk := os.Getenv("BOXRUN_TEST_DISK")
	if disk == "" {
		onOwnDisk(t)
		return
	}
	image := filepath.Join(disk, "web.img")
	refused := func(size string) string {
		t.Helper()
		bytes, err := amount.Parse(size)
		if err != nil {
			t.Fatal(err)
		}
		p := testkit.Profile("web", func(p *profiles.Profile) {
			p.Storage.Root, p.Storage.Overlay, p.Storage.OverlaySize = "overlay", image, bytes
		})
		now, _ := due(p)
		if err := refuseSmall(p, now); err != nil {
			return err.Error()
		}
		return ""
	}
	const text = "/etc/boxrun/profiles/web.toml: storage.overlay_size: %s takes %s of the file system of %q, where %s are free"
	testkit.WantText(t, refused("96M"), "")
	testkit.WantText(t, refused("97M"), fmt.Sprintf(text, "97M", "97M", image, "96M"))
	fill(t, image, 32<<20)
	testkit.WantText(t, refused("64M"), "")
	testkit.WantText(t, refused("65M"), fmt.Sprintf(text, "65M", "65M", image, "64M"))
	fill(t, beside(image), 40<<20)
	testkit.WantText(t, refused("64M"), "")
	testkit.WantText(t, refused("65M"), fmt.Sprintf(text, "65M", "65M", image, "64M"))
}

// fill writes a file without holes.
func fill(t *testing.T, path string, size int) {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

// onOwnDisk runs the test again, with a disk in $BOXRUN_TEST_DISK.
func onOwnDisk(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command("unshare", "-rm", "sh", "-c", `mount -t tmpfs -o size="$2" tmpfs "$0" && exec "$1" -test.run="^$3\$" -test.v`,
		dir, self, fmt.Sprint(diskSize), t.Name())
	cmd.Env = append(os.Environ(), "BOXRUN_TEST_DISK="+dir)
	out, err := cmd.CombinedOutput()
	switch {
	case strings.Contains(string(out), "--- PASS: "+t.Name()):
	case strings.Contains(string(out), "=== RUN"):
		t.Fatalf("%v\n%s", err, out)
	default:
		testkit.Cannot(t, "no mount namespace: %v: %s", err, out)
	}
}
