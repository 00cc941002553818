package launcher

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// record is the part boxrun reads of Apptainer's file about an instance (File in internal/pkg/instance).
type record struct {
	PID  int    `json:"pid"`  // PID of init, as the host counts
	PPID int    `json:"ppid"` // PID of Apptainer's master, which cleans up when init ends
	Name string `json:"name"`
}

// readRecord reads the record at path. Apptainer truncates the file before writing (File.Update), so an empty or cut
// file counts as absent: os.ErrNotExist.
func readRecord(path string) (record, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return record{}, err
	}
	return parseRecord(text)
}

// parseRecord parses the text of a record. Error: os.ErrNotExist if the text is incomplete.
func parseRecord(text []byte) (record, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil || r.PID <= 1 || r.PPID <= 1 {
		return record{}, fmt.Errorf("reading Apptainer's record: not complete: %w", os.ErrNotExist)
	}
	return r, nil
}

// verify returns nil if the record is of a live instance of the recorded name. A process may have got the PID of a dead
// instance, so init's parent must be the master, and the master's title must carry the name. Otherwise the error is
// os.ErrProcessDone or from reading /proc.
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

// foreign reports whether Apptainer's record of the box is of a running instance other than the box: somebody started
// an instance of the same name by hand after the box had ended. For a box still starting, with its init unknown, a
// running instance counts as the box's own.
func (b *Box) foreign() bool {
	if b.Phase == Starting && b.Init.PID <= 1 {
		return false
	}
	r, err := readRecord(b.Record)
	return err == nil && r.PID != b.Init.PID && r.verify() == nil
}

// masterTitle is the process title of Apptainer's master of root's instance (ProcName in internal/pkg/instance).
func masterTitle(name string) string { return "Apptainer instance: root [" + name + "]" }
