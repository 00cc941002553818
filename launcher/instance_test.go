package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"boxrun/launcher/testkit"
)

func TestParseRecord(t *testing.T) {
	// As Apptainer 1.4.5 writes a record, with the configuration cut short.
	const whole = `{"pid":165,"ppid":164,"name":"web","user":"root","image":"/srv/web","config":"e30=","userns":false,` +
		`"cgroup":true,"ip":"10.22.0.2","logErrPath":"/root/web.err","logOutPath":"/root/web.out","checkpoint":"","sharensMode":false}`
	got, err := parseRecord([]byte(whole))
	if want := (record{PID: 165, PPID: 164, Name: "web"}); err != nil || got != want {
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
	self := record{PID: os.Getpid(), PPID: os.Getppid(), Name: "web"}
	if err := self.verify(); err == nil || !strings.Contains(err.Error(), `is not Apptainer's master of "web"`) {
		t.Errorf("a parent of another name: got %v", err)
	}
	notChild := record{PID: os.Getpid(), PPID: os.Getpid(), Name: "web"}
	if err := notChild.verify(); err == nil || !strings.Contains(err.Error(), "is not the child of Apptainer's master") {
		t.Errorf("a process of another parent: got %v", err)
	}
	gone := record{PID: 1 << 30, PPID: os.Getpid(), Name: "web"}
	if err := gone.verify(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a number nobody has: got %v", err)
	}
}

// An instance started by hand under the name of an ended box keeps its record.
func TestForeignInstanceKeepsItsRecord(t *testing.T) {
	name := testkit.UniqueName(t)
	master := running(t, masterTitle(name), "/bin/bash", "-c", "sleep 60 & wait")
	testkit.Eventually(t, "the instance runs", func() bool { return hasChild(master.PID) })
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", master.PID))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		t.Fatal(err)
	}
	l := &Launcher{Store: &Store{Dir: t.TempDir(), Home: t.TempDir(), Note: func(string) {}}}
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	b := &Box{Name: name, Phase: Running, Init: process{PID: 1 << 30}, Record: recordPath(l.Home, hostname, name), Log: filepath.Join(l.Home, "log.err")}
	if err := os.MkdirAll(filepath.Dir(b.Record), 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"pid":%d,"ppid":%d,"name":%q}`, pid, master.PID, name)
	if err := errors.Join(os.WriteFile(b.Record, []byte(text), 0o644), l.save(b)); err != nil {
		t.Fatal(err)
	}
	if err := l.refuseInstance(name); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want %v", err, ErrRefused)
	}
	if err := l.removeRecord(b); err != nil || !exists(b.Record) {
		t.Errorf("got %v, record there %v, want no error and true", err, exists(b.Record))
	}
	b.Phase, b.Init.PID = Starting, 0
	if b.foreign() {
		t.Error("what a start made that was cut short is taken for another's")
	}
	b.Phase, b.Init.PID = Running, pid
	if err := l.removeRecord(b); err != nil || exists(b.Record) {
		t.Errorf("the box's own: got %v, record there %v, want no error and false", err, exists(b.Record))
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
