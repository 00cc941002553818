package apptainer

import (
	"encoding/json"
	"fmt"
	"os"

	"boxrun/launcher/process"
)

// Record is the part boxrun reads of Apptainer's file about an instance (File in internal/pkg/instance).
type Record struct {
	PID  int    `json:"pid"`  // PID of init, as the host counts
	PPID int    `json:"ppid"` // PID of Apptainer's master, which cleans up when init ends
	Name string `json:"name"`
}

// ReadRecord reads the record at path. Apptainer truncates the file before writing (File.Update), so an empty or cut
// file counts as absent: os.ErrNotExist.
func ReadRecord(path string) (Record, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Record{}, err
	}
	return parseRecord(text)
}

// parseRecord parses the text of a record. Error: os.ErrNotExist if the text is incomplete.
func parseRecord(text []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(text, &r); err != nil || r.PID <= 1 || r.PPID <= 1 {
		return Record{}, fmt.Errorf("reading Apptainer's record: not complete: %w", os.ErrNotExist)
	}
	return r, nil
}

// Verify returns nil if the record is of a live instance of the recorded name. A process may have got the PID of a dead
// instance, so init's parent must be the master, and the master's title must carry the name. Otherwise the error is
// os.ErrProcessDone or from reading /proc.
func (r Record) Verify() error {
	parent, err := process.ParentOf(r.PID)
	if err != nil {
		return err
	}
	if parent != r.PPID {
		return fmt.Errorf("process %d is not the child of Apptainer's master %d: %w", r.PID, r.PPID, os.ErrProcessDone)
	}
	if !holdsInstance(argvOf(r.PPID), r.Name) {
		return fmt.Errorf("process %d is not Apptainer's master of %q: %w", r.PPID, r.Name, os.ErrProcessDone)
	}
	return nil
}

// MasterTitle is the process title of Apptainer's master of root's instance (ProcName in internal/pkg/instance).
func MasterTitle(name string) string { return "Apptainer instance: root [" + name + "]" }
