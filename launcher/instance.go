package launcher

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// record is what boxrun reads of Apptainer's own file about an instance (File in internal/pkg/instance).
type record struct {
	PID  int    `json:"pid"`  // init, as the host counts
	PPID int    `json:"ppid"` // Apptainer's master, which cleans up when init ends
	Name string `json:"name"`
}

// readRecord reads the record at path. Apptainer truncates before it writes (File.Update), so a file that is empty or
// cut is reported as absent: os.ErrNotExist.
func readRecord(path string) (record, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return record{}, err
	}
	return parseRecord(text)
}

func parseRecord(text []byte) (record, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil || r.PID <= 1 || r.PPID <= 1 {
		return record{}, fmt.Errorf("reading Apptainer's record: not complete: %w", os.ErrNotExist)
	}
	return r, nil
}

// verify says whether the record is of a live instance of that name, and not of a process that was given the number
// of a dead one: init's parent must be the master, and the master's title must carry the name.
func (r record) verify() error {
	parent, err := parentOf(r.PID)
	if err != nil {
		return err
	}
	if parent != r.PPID {
		return fmt.Errorf("process %d is not the child of Apptainer's master %d: %w", r.PID, r.PPID, os.ErrProcessDone)
	}
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", r.PPID))
	if err != nil {
		return err
	}
	if argv0, _, _ := strings.Cut(string(title), "\x00"); argv0 != masterTitle(r.Name) {
		return fmt.Errorf("process %d is not Apptainer's master of %q: %w", r.PPID, r.Name, os.ErrProcessDone)
	}
	return nil
}

// foreign says whether Apptainer's record of the box is of an instance that runs and is not the box's: somebody started
// one of its name by hand after the box had ended. Of a start that has not come so far as to know its init, what runs is
// taken to be the box's own.
func (b *Box) foreign() bool {
	if b.Phase == Starting && b.Init.PID <= 1 {
		return false
	}
	r, err := readRecord(b.Record)
	return err == nil && r.PID != b.Init.PID && r.verify() == nil
}

// masterTitle is what Apptainer's master of root's instance calls itself (ProcName in internal/pkg/instance).
func masterTitle(name string) string { return "Apptainer instance: root [" + name + "]" }
