package apptainer

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func TestParseRecord(t *testing.T) {
	// As Apptainer 1.4.5 writes a record, with the configuration cut short.
	const whole = `{"pid":165,"ppid":164,"name":"web","user":"root","image":"/srv/web","config":"e30=","userns":false,` +
		`"cgroup":true,"ip":"10.22.0.2","logErrPath":"/root/web.err","logOutPath":"/root/web.out","checkpoint":"","sharensMode":false}`
	got, err := parseRecord([]byte(whole))
	if want := (Record{PID: 165, PPID: 164, Name: "web"}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for name, text := range map[string]string{
		"empty, as truncated before a write": "",
		"half written":                       whole[:40],
		"no pid":                             `{"name":"web"}`,
		"the host's init as pid":             `{"pid":1,"ppid":1,"name":"web"}`,
	} {
		if _, err := parseRecord([]byte(text)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want an error that says it is not there yet", name, err)
		}
	}
}

// The record of a dead instance must not count as live when other processes have its PIDs.
func TestVerifyRecordOfOthers(t *testing.T) {
	self := Record{PID: os.Getpid(), PPID: os.Getppid(), Name: "web"}
	if err := self.Verify(); err == nil || !strings.Contains(err.Error(), `is not Apptainer's master of "web"`) {
		t.Errorf("a parent of another name: got %v", err)
	}
	notChild := Record{PID: os.Getpid(), PPID: os.Getpid(), Name: "web"}
	if err := notChild.Verify(); err == nil || !strings.Contains(err.Error(), "is not the child of Apptainer's master") {
		t.Errorf("a process of another parent: got %v", err)
	}
	gone := Record{PID: 1 << 30, PPID: os.Getpid(), Name: "web"}
	if err := gone.Verify(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a number nobody has: got %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"pid":165,"ppid":164,"name":"web"}`))
	f.Add([]byte(`{"pid":`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRecord(text)
		if err == nil && (r.PID <= 1 || r.PPID <= 1) {
			t.Errorf("took %q for the record of processes %d and %d", text, r.PID, r.PPID)
		}
	})
}
