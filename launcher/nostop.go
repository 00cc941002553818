package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// What down --dry-run prints tells the services of a box for as long as it takes not to run "boxrun down" themselves, by a
// file beside each. One that was cut short leaves them.

// noStopFile is such a file, of a service.
func noStopFile(unit string) string { return filepath.Join(unitRunDir, unit+".d", "no-stop.conf") }

// noStopFiles gives those that are there.
func noStopFiles() []string {
	files, _ := filepath.Glob(noStopFile("boxrun*.service")) // the pattern is well-formed
	return files
}

// unhookCommands keep the services that watch the box from running "boxrun down" themselves when its init ends, and
// undo takes that back.
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

// hookAgain has the services of the box named run "boxrun down" again, where one that was typed has been cut short. The
// caller holds the box's lock.
func (s *Store) hookAgain(ctx context.Context, name string) error {
	var errs []error
	for _, file := range noStopFiles() {
		dir := filepath.Dir(file)
		if !unitIsOf(strings.TrimSuffix(filepath.Base(dir), ".d"), name) {
			continue
		}
		errs = append(errs, removeIfThere(file))
		_ = os.Remove(dir) // fails, as it should, where something else is in it
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
