package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/process"
	"boxrun/launcher/processtest"
	"boxrun/launcher/testkit"
)

// An instance started by hand under the name of an ended box keeps its record.
func TestForeignInstanceKeepsItsRecord(t *testing.T) {
	name := testkit.UniqueName(t)
	master := processtest.Running(t, apptainer.MasterTitle(name), "/bin/bash", "-c", "sleep 60 & wait")
	testkit.Eventually(t, "the instance runs", func() bool { return apptainer.HasChild(master.PID) })
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", master.PID))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		t.Fatal(err)
	}
	l := &Launcher{Store: &box.Store{Dir: t.TempDir(), Home: t.TempDir(), Note: func(string) {}}}
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	b := &box.Box{Name: name, Phase: box.Running, Init: process.Process{PID: 1 << 30}, Record: apptainer.RecordPath(l.Home, hostname, name), Log: filepath.Join(l.Home, "log.err")}
	if err := os.MkdirAll(filepath.Dir(b.Record), 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"pid":%d,"ppid":%d,"name":%q}`, pid, master.PID, name)
	if err := errors.Join(os.WriteFile(b.Record, []byte(text), 0o644), l.Save(b)); err != nil {
		t.Fatal(err)
	}
	if err := l.refuseInstance(name, b); !errors.Is(err, fault.ErrRefused) {
		t.Errorf("got %v, want %v", err, fault.ErrRefused)
	}
	if err := l.removeOwn(t.Context(), b); err != nil || !files.Exists(b.Record) {
		t.Errorf("got %v, record there %v, want no error and true", err, files.Exists(b.Record))
	}
	b.Phase, b.Init.PID = box.Starting, 0
	if b.Foreign() {
		t.Error("what a start made that was cut short is taken for another's")
	}
	b.Phase, b.Init.PID = box.Running, pid
	if err := l.removeOwn(t.Context(), b); err != nil || files.Exists(b.Record) {
		t.Errorf("the box's own: got %v, record there %v, want no error and false", err, files.Exists(b.Record))
	}
}
