package apptainer

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"boxrun/netsetup/nstest"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// A start that fails without a word is told why where the kernel has no inotify instances left: a systemd ends at once then. In
// a user namespace root has a limit of its own.
func TestAnInitWithoutInotify(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, "echo 20 > /proc/sys/user/max_inotify_instances")
	c := NewCommand("web", "/srv/web", "/nowhere/web.err", 0, time.Minute)
	const why = "too few inotify instances left"
	if got := c.Failed(errors.New("its init ended at once")).Error(); strings.Contains(got, why) {
		t.Errorf("with 20 to be had: %s", got)
	}
	for range 15 {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	if got := c.Failed(errors.New("its init ended at once")).Error(); !strings.Contains(got, "its init ended at once; the kernel has "+why) {
		t.Errorf("with 5 to be had: %s", got)
	}
}
