package inotify

import (
	"testing"

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

func TestTight(t *testing.T) {
	for room, want := range map[Room]bool{{120, 128}: false, {121, 128}: true, {200, 128}: true, {0, 1024}: false} {
		if got := room.Tight(); got != want {
			t.Errorf("with %d of %d taken: tight is %v, want %v", room.Taken, room.Limit, got, want)
		}
	}
}
