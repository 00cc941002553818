package box

import (
	"os"
	"testing"
)

// A glance tells of every record as it is now, and reads no file twice.
func TestGlance(t *testing.T) {
	s := &Store{Dir: t.TempDir(), Note: func(string) {}}
	save := func(name, log string) {
		t.Helper()
		if err := s.Save(&Box{Name: name, Phase: Running, Log: log}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, logs ...string) (boxes []*Box) {
		t.Helper()
		boxes, err := s.Glance()
		if err != nil || len(boxes) != len(logs) {
			t.Fatalf("%s: got %d boxes, %v, want %d", when, len(boxes), err, len(logs))
		}
		for i, b := range boxes {
			if b.Log != logs[i] {
				t.Errorf("%s: %s is as of %q, want %q", when, b.Name, b.Log, logs[i])
			}
		}
		return boxes
	}
	save("a", "first")
	save("b", "first")
	want("at first", "first", "first")[0].Log = "changed by a caller"
	read := s.glances.last[s.BoxFile("a")].box
	want("again", "first", "first")
	if s.glances.last[s.BoxFile("a")].box != read {
		t.Error("an unchanged record was read again")
	}
	save("a", "second")
	want("after a change", "second", "first")
	if err := os.Remove(s.BoxFile("b")); err != nil {
		t.Fatal(err)
	}
	want("after a removal", "second")
	if err := os.WriteFile(s.BoxFile("a"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Glance(); err == nil {
		t.Error("an unreadable record is no error")
	}
}
