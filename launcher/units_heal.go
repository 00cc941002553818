package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"boxrun/netsetup"
)

// Repair puts back what others took away of the rules of boxes that run, and touches no box; it gives a line for each thing
// that it mended. A box that another boxrun works on comes last, as that one may wait for it to be ready. What cannot be read is an error, and keeps no other box from being mended.
func (l *Launcher) Repair(ctx context.Context) ([]string, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	boxes, err := l.boxes()
	errs := []error{err}
	var mended []string
	var busy []string
	for _, b := range boxes {
		lines, err := l.repairFree(ctx, k, b.Name)
		if errors.Is(err, errBusy) {
			busy = append(busy, b.Name)
			continue
		}
		mended, errs = append(mended, lines...), append(errs, err)
	}
	for _, name := range busy {
		lines, err := l.repairLocked(ctx, k, name)
		mended, errs = append(mended, lines...), append(errs, err)
	}
	return mended, errors.Join(errs...)
}

// errBusy says that another boxrun works on a box.
var errBusy = errors.New("another boxrun works on it")

// repairFree mends a box that nobody works on; errBusy where somebody does.
func (l *Launcher) repairFree(ctx context.Context, k *netsetup.Kernel, name string) ([]string, error) {
	now, cancel := context.WithTimeoutCause(ctx, time.Millisecond, errBusy)
	defer cancel()
	unlock, err := lock(now, l.path("locks"), "box-"+name, func(string) {})
	if err != nil {
		return nil, err
	}
	defer unlock()
	return l.repairOne(ctx, k, name)
}

// repairLocked mends a box as soon as nobody works on it.
func (l *Launcher) repairLocked(ctx context.Context, k *netsetup.Kernel, name string) ([]string, error) {
	unlock, err := l.lockBox(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return l.repairOne(ctx, k, name)
}

// repairOne mends a box that runs, whose lock we have.
func (l *Launcher) repairOne(ctx context.Context, k *netsetup.Kernel, name string) ([]string, error) {
	b, err := l.load(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (b.Phase != Running || !b.alive()) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k.Reread()
	lines, err := l.repair(ctx, k, b)
	for i, line := range lines {
		lines[i] = name + ": " + line
	}
	return lines, wrap(fmt.Sprintf("repairing %s", name), err)
}

// stopHealing stops the services that put rules back.
func (h *hostSystemd) stopHealing(ctx context.Context) error {
	var errs []error
	for _, unit := range healingUnits() {
		errs = append(errs, h.stopUnit(ctx, unit).wait(ctx))
	}
	return errors.Join(errs...)
}
