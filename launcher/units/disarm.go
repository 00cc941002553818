package units

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
)

// The commands of down --dry-run disarm the services of a box: they keep the services from running "boxrun down"
// themselves, by a drop-in file for each service, removed by the last commands. If the commands are cut short, the
// files stay.

// noStopFile is the path of the drop-in file for a service.
func noStopFile(unit string) string { return filepath.Join(unitRunDir, unit+".d", "no-stop.conf") }

// noStopFiles returns the drop-in files present.
func noStopFiles() []string {
	files, _ := filepath.Glob(noStopFile("boxrun*.service")) // the pattern is well-formed
	return files
}

// Disarmed returns the commands that keep the services of the box from running "boxrun down" when its init ends, and the
// commands to undo this. Both are nil on a host without systemd.
func Disarmed(b *box.Box) (lines, undo []string) {
	if !Booted() {
		return nil, nil
	}
	var set files.Set
	for _, unit := range unitsOf(b) {
		file := noStopFile(unit)
		set.Files = append(set.Files, files.Dir(filepath.Dir(file)), unitFile(file, "[Service]\nExecStop=\n"))
		gone := files.Removal{Paths: []string{file}}
		undo = append(undo, gone.Command(), files.Removal{Paths: []string{filepath.Dir(file)}, IfEmpty: true}.Command())
	}
	return append(set.Commands(), "systemctl daemon-reload"), append(undo, "systemctl daemon-reload")
}

// Rearm removes the drop-in files left for the named box by commands cut short, so the box's services run "boxrun
// down" again. The caller holds the box's lock.
func Rearm(ctx context.Context, name string) error {
	var errs []error
	for _, file := range noStopFiles() {
		dir := filepath.Dir(file)
		if IsOf(strings.TrimSuffix(filepath.Base(dir), ".d"), name) {
			errs = append(errs, removeAll([]string{file, dir}))
		}
	}
	if len(errs) == 0 || !Booted() {
		return errors.Join(errs...)
	}
	host, err := Dial(ctx)
	if err == nil {
		defer host.Close()
		err = host.reload(ctx)
	}
	return errors.Join(append(errs, err)...)
}
