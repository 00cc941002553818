package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The commands of down --dry-run keep the services of a box from running "boxrun down" themselves, by a drop-in file
// for each service, removed by the last commands. If the commands are cut short, the files stay.

// noStopFile is the path of the drop-in file for a service.
func noStopFile(unit string) string { return filepath.Join(unitRunDir, unit+".d", "no-stop.conf") }

// noStopFiles returns the drop-in files present.
func noStopFiles() []string {
	files, _ := filepath.Glob(noStopFile("boxrun*.service")) // the pattern is well-formed
	return files
}

// unhookCommands returns commands that keep the services watching the box from running "boxrun down" when its init
// ends, and the commands to undo this. Both are nil on a host without systemd.
func (b *Box) unhookCommands() (lines, undo []string) {
	if !systemdHost() {
		return nil, nil
	}
	for _, unit := range b.unitsOf() {
		file := noStopFile(unit)
		lines = append(lines, "mkdir -p "+quote(filepath.Dir(file)),
			fmt.Sprintf("printf '[Service]\\nExecStop=\\n' > %s", quote(file)))
		undo = append(undo, "rm "+quote(file), removeEmptyCommand(filepath.Dir(file)))
	}
	return append(lines, "systemctl daemon-reload"), append(undo, "systemctl daemon-reload")
}

// hookAgain removes the drop-in files left for the named box by commands cut short, so the box's services run "boxrun
// down" again. The caller holds the box's lock.
func (s *Store) hookAgain(ctx context.Context, name string) error {
	var errs []error
	for _, file := range noStopFiles() {
		dir := filepath.Dir(file)
		if !unitIsOf(strings.TrimSuffix(filepath.Base(dir), ".d"), name) {
			continue
		}
		errs = append(errs, removeIfThere(file))
		_ = os.Remove(dir) // fails, as desired, for a directory with other content
	}
	if len(errs) == 0 || !systemdHost() {
		return errors.Join(errs...)
	}
	host, err := dialHost(ctx)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer host.Close()
	return errors.Join(append(errs, host.reload(ctx))...)
}
