package box

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/fault"
	"boxrun/launcher/process"
)

// Lost returns the names of running boxes whose records are gone, as after "rm -r /run/boxrun". Apptainer's records list
// the candidates. The kernel still knows that files of boxrun's directory for the box are bound over the box's own.
func (s *Store) Lost() []string {
	var names []string
	files, _ := filepath.Glob(apptainer.RecordPath(s.Home, "*", "*")) // the pattern is well-formed
	for _, file := range files {
		if name := NameOf(file); sizeOf(s.BoxFile(name)) == 0 && s.lostAt(file, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// IsLost reports whether Lost has the name.
func (s *Store) IsLost(name string) bool { return slices.Contains(s.Lost(), name) }

// lostAt reports whether Apptainer's record is of a running instance that boxrun started under the name.
func (s *Store) lostAt(record, name string) bool {
	r, err := apptainer.ReadRecord(record)
	if err != nil || r.Name != name || r.Verify() != nil {
		return false
	}
	mounts, err := os.ReadFile(process.ProcFile(r.PID, "mountinfo"))
	dir := filepath.Join(filepath.Base(s.Dir), "boxes", name, "conf")
	return err == nil && strings.Contains(string(mounts), "/"+dir+"/")
}

// LostProblem returns the error for a running box whose record is gone.
func LostProblem(name string) error {
	return &fault.Problem{Kind: fault.ErrRefused, Text: fmt.Sprintf("the box %q runs, but boxrun's record of it is gone", name),
		Hint: fmt.Sprintf("\"boxrun down %s\" stops the box and takes away what can be found by its name", name)}
}
