package apptainer

import (
	"context"
	"errors"
	"os"
	"slices"

	"boxrun/launcher/process"
)

func (i Processes) all() []process.Process { return slices.Concat(i.CLI, i.Masters) }

// settled reports whether no start is under way: no command line runs, and every master is past the start. During a
// start the master is the child of a process with the same title, and then has a child with the same title. The last
// step of a start turns this child into the box's init.
func (i Processes) settled() (bool, error) {
	if len(i.CLI) > 0 {
		return false, nil
	}
	for _, m := range i.Masters {
		parent, err := process.ParentOf(m.PID)
		if errors.Is(err, os.ErrProcessDone) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		isMaster := func(p process.Process) bool { return p.PID == parent }
		if slices.ContainsFunc(i.Masters, isMaster) || !HasChild(m.PID) {
			return false, nil
		}
	}
	return true, nil
}

// end kills the processes and waits until they are gone. The command line goes first, because it must not report a
// success.
func (i Processes) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, process.KillTimeout)
	defer cancel()
	var errs []error
	for _, p := range i.all() {
		errs = append(errs, p.Kill())
	}
	for _, p := range i.all() {
		errs = append(errs, p.Wait(ctx))
	}
	return errors.Join(errs...)
}
