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

// Repaired is what a repair did.
type Repaired struct {
	Boxes  int      // how many were up
	Mended []string // a line for each thing that was out of place
}

// Repair puts back what others took away of the rules of boxes that run, and touches no box. A box that another boxrun
// works on comes last, as that one may wait for it to be ready. A record that cannot be read is an error, when the other
// boxes are mended.
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

// repairs goes from box to box: what they share is looked at once, and the rules are read anew only where some were
// mended. Those of a box are its lock's holder's.
type repairs struct {
	l       *Launcher
	k       *netsetup.Kernel
	bridges []string // that were mended, and with them the host
	done    Repaired
	errs    []error
}

// note keeps what was done for a box, or for all where name is "".
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

// free mends a box that nobody works on; errBusy where somebody does.
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

// locked mends a box as soon as nobody works on it.
func (r *repairs) locked(ctx context.Context, name string) {
	unlock, err := r.l.LockBox(ctx, name)
	if err != nil {
		r.note(name, nil, err)
		return
	}
	defer unlock()
	r.box(ctx, name)
}

// box mends a box that runs, whose lock we have, and before that what it shares with others.
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
