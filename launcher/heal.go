package launcher

import (
	"context"
	"errors"
	"slices"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/network"
	"boxrun/netsetup"
)

// Repaired is the outcome of a repair.
type Repaired struct {
	Boxes  int      // how many boxes were up
	Mended []string // a line for each fault
}

// Repair puts back rules that others took away from running boxes, and touches no box. A box in the hands of another
// boxrun comes last, because the other boxrun may be waiting for the box to be ready. An unreadable record is an error,
// but the other boxes are mended.
func (l *Launcher) Repair(ctx context.Context) (Repaired, error) {
	k, err := network.OpenKernel()
	if err != nil {
		return Repaired{}, err
	}
	defer k.Close()
	boxes, unread := l.All()
	r := &repairs{l: l, k: k, errs: []error{unread}}
	var busy []string
	for _, b := range boxes {
		if err := r.free(ctx, b.Name); errors.Is(err, errBusy) {
			busy = append(busy, b.Name)
		}
	}
	for _, name := range busy {
		r.locked(ctx, name)
	}
	if len(r.bridges) > 0 {
		names, err := network.RepairNames(ctx, l.Store)
		r.note("", names, err)
	}
	return r.done, errors.Join(r.errs...)
}

// repairs goes from box to box. The network common to several boxes is looked at once, and rules are read anew only
// after some were mended. The rules of a box belong to the holder of the box's lock.
type repairs struct {
	l       *Launcher
	k       *netsetup.Kernel
	bridges []string // mended already, and with them the host
	done    Repaired
	errs    []error
}

// note keeps the result for a box, or for everything boxes share if name is "".
func (r *repairs) note(name string, lines []string, err error) {
	for _, line := range lines {
		if name != "" {
			line = name + ": " + line
		}
		r.done.Mended = append(r.done.Mended, line)
	}
	if name == "" {
		name = "what boxes share"
	}
	r.errs = append(r.errs, fault.Wrap("repairing "+name, err))
}

// errBusy says that another boxrun works on a box.
var errBusy = errors.New("another boxrun works on it")

// free mends a box nobody works on. The error is errBusy if somebody does.
func (r *repairs) free(ctx context.Context, name string) error {
	now, cancel := context.WithTimeoutCause(ctx, time.Millisecond, errBusy)
	defer cancel()
	unlock, err := box.Lock(now, r.l.Path("locks"), "box-"+name, func(string) {})
	if err != nil {
		if !errors.Is(err, errBusy) {
			r.note(name, nil, err)
		}
		return err
	}
	defer unlock()
	r.box(ctx, name)
	return nil
}

// locked mends a box as soon as nobody works on the box.
func (r *repairs) locked(ctx context.Context, name string) {
	unlock, err := r.l.LockBox(ctx, name)
	if err != nil {
		r.note(name, nil, err)
		return
	}
	defer unlock()
	r.box(ctx, name)
}

// box mends a running box, and before the box the network shared with others. The caller holds the box's lock.
func (r *repairs) box(ctx context.Context, name string) {
	b, err := r.l.Load(name)
	if err != nil || b.Phase != box.Running || !b.Alive() {
		r.note(name, nil, files.IgnoreNotExist(err))
		return
	}
	r.done.Boxes++
	if !b.Bridged() {
		return
	}
	if bridge := b.Profile.Network.Bridge; !slices.Contains(r.bridges, bridge) {
		lines, err := network.RepairShared(ctx, r.l.Store, r.k, b)
		r.note("", lines, err)
		r.bridges = append(r.bridges, bridge)
	}
	lines, err := network.RepairRules(r.l.Store, r.k, b)
	r.note(name, lines, err)
}
