package watch

import (
	"bytes"
	"os"
	"testing"
	"time"

	"boxrun/netsetup/nstest"
)

// The watch hears of the one event of the kernel that is waited for, and of no other. The kernel tells of an event that somebody
// writes to a file of a device as of its own.
func TestAwaitEvent(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, "mkdir /run/sys; mount -t sysfs sysfs /run/sys") // of the namespace's own devices
	const file = "/run/sys/class/net/lo/uevent"
	w := &watcher{failed: make(chan error, 1)}
	heard := make(chan bool, 2)
	for _, event := range []string{"add@/module/nosuch", "add@/devices/virtual/net/lo"} {
		if err := w.awaitEvent(t.Context(), event, func(lost bool) error { heard <- lost || event == "add@/module/nosuch"; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, event := range []string{"change", "add"} {
		if err := os.WriteFile(file, []byte(event), 0o200); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-w.failed:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("the event was not heard of")
	case other := <-heard:
		if other {
			t.Fatal("another event was heard of, or some were lost")
		}
	}
}

// What nobody mends is logged once, and again after a repair that did not find it.
func TestNote(t *testing.T) {
	var log bytes.Buffer
	w := &watcher{log: &log}
	const left, mended = "boxrun: web: still drifted: a rule\n", "boxrun: mended: another\n"
	for _, said := range []string{left, "", left, left + mended, mended + left, "", left} {
		w.note(said)
	}
	if want := left + left + mended + mended + left; log.String() != want {
		t.Errorf("got\n%s\nwant\n%s", log.String(), want)
	}
}
