package inotify

import (
	"fmt"
	"os"
	"testing"

	"boxrun/netsetup/nstest"

	"golang.org/x/sys/unix"
)

// An instance that this process opens is counted, and no other file of the process is.
func TestTakenBy(t *testing.T) {
	before := takenBy("/proc/self")
	for range 3 {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	if got := takenBy("/proc/self") - before; got != 3 {
		t.Errorf("of 3 instances %d are counted", got)
	}
}

// Where more instances than there are cannot be had, the instances are counted.
func TestHasFree(t *testing.T) {
	most, err := limit()
	if err != nil {
		t.Fatal(err)
	}
	before := takenBy("/proc/self")
	if !hasFree(1) || hasFree(most+1) {
		t.Errorf("one is free: %v, %d are free: %v", hasFree(1), most+1, hasFree(most+1))
	}
	if after := takenBy("/proc/self"); after != before {
		t.Errorf("%d instances were taken, now %d are", before, after)
	}
}

func TestTight(t *testing.T) {
	for room, want := range map[Room]bool{
		{Taken: 120, Limit: 128}: false, {Taken: 121, Limit: 128}: true, {Taken: 200, Limit: 128}: true, {Limit: 1024}: false,
		{Taken: 10, Limit: 1024, Short: true}: true,
	} {
		if got := room.Tight(); got != want {
			t.Errorf("with %d of %d taken: tight is %v, want %v", room.Taken, room.Limit, got, want)
		}
	}
}

// Where another program has all instances of root, however high the limit, a start is warned, with who has them; and where
// the limit is already what host setup sets, with the setting and the file. In a user namespace root has a limit of its own.
func TestAnotherProgramHasThem(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, "echo 20 > /proc/sys/user/max_inotify_instances")
	if r, err := LookFor(); err != nil || r.Tight() {
		t.Fatalf("with 20 to be had: %v, %v", r, err)
	}
	for {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC) // 20 at most: those of the machine are not the test's to use up
		if err != nil {
			break
		}
		defer unix.Close(fd)
	}
	r, err := LookFor()
	if want := fmt.Sprintf("inotify.test (pid %d) has 20", os.Getpid()); err != nil || !r.Tight() || r.Most != want {
		t.Errorf("with none to be had: %v, %v, want that %s", r, err, want)
	}
	r.Limit = 1024
	const want = "sysctl -w fs.inotify.max_user_instances=2048, and that line in /etc/sysctl.d/91-inotify.conf for the boots to come"
	if got := r.Hint(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r.Limit = 128
	if got := r.Fix(); got != "boxrun host setup" {
		t.Errorf("below what host setup sets: %s", got)
	}
}

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }
