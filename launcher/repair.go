package launcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/health"
	"boxrun/launcher/lan"
	"boxrun/launcher/limits"
	"boxrun/launcher/list"
	"boxrun/launcher/machine"
	"boxrun/launcher/network"
	"boxrun/launcher/process"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/netsetup/led"
)

// Repaired is the outcome of a repair.
type Repaired struct {
	Boxes int      // how many running boxes were looked at
	Lines []string // a line for each repaired fault
	Left  []string // a line for each fault that is still there

	after []Status  // of all boxes, where one was up
	at    time.Time // of the end of the repair, before that look
}

// Told returns what there is to tell a person.
func (r Repaired) Told() []string {
	return append(list.Map(r.Lines, func(line string) string { return "mended: " + line }), r.Left...)
}

// Repair puts back what others took away from running boxes: rules, links, name servers, limits, looks. No process of a box
// is touched, but systemd-resolved, after a change of name servers. Repair goes on past errors. An unreadable record is an
// error, but the other boxes are repaired. Repair looks afterwards what only a person can mend.
func (l *Launcher) Repair(ctx context.Context) (Repaired, error) {
	process.CollectLate()
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return Repaired{}, err
	}
	defer k.Close()
	names, listErr := l.Recorded()
	r := &repairs{l: l, k: k, led: new(led.Host), verb: "repairing", errs: append(list.Map(l.Lost(), box.LostProblem), listErr)}
	r.each(ctx, names, r.andLooks(r.rules))
	if len(r.bridges) > 0 {
		names, err := network.RepairNames(ctx, l.Store)
		r.note("", names, err)
	}
	err = errors.Join(r.errs...)
	r.done.at = time.Now()
	if err == nil && r.done.Boxes > 0 {
		r.done.after, err = l.List(ctx)
		r.done.Left = stillDrifted(r.done.after)
	}
	return r.done, err
}

// stillDrifted returns a line for each thing out of place of a running box.
func stillDrifted(boxes []Status) (lines []string) {
	for _, b := range boxes {
		for _, line := range b.Drift {
			lines = append(lines, b.Name+health.StillDrifted+line)
		}
	}
	return lines
}

// RepairAll repairs everything of boxrun's: what up repairs of a running box, and what down takes away of a dead box,
// and then the leases, rules and networks that no box needs. RepairAll goes on past errors, and leaves a box alone
// that another boxrun works on for longer: the other boxrun repairs the box as well.
func (l *Launcher) RepairAll(ctx context.Context) (Repaired, error) {
	process.CollectLate()
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return Repaired{}, err
	}
	defer k.Close()
	boxes, err := l.All()
	if err != nil && !errors.Is(err, box.ErrUnreadable) { // network.Clean returns unreadable records
		return Repaired{}, err
	}
	r := &repairs{l: l, k: k, led: new(led.Host), verb: "mending", patience: 3 * time.Second}
	r.each(ctx, box.Names(boxes), r.andLooks(r.whole))
	lines, err := network.Clean(ctx, l.Store, k)
	r.done.Lines = append(r.done.Lines, lines...)
	return r.done, errors.Join(append(r.errs, err)...)
}

// repairs goes from box to box, and repairs each under the lock of the box: the rules of a box belong to the holder of
// its lock.
type repairs struct {
	l        *Launcher
	k        *netsetup.Kernel
	verb     string        // of errors
	patience time.Duration // for a box in the hands of another boxrun; 0: as long as the other boxrun takes
	bridges  []string      // of the boxes so far: what boxes share is repaired once for each bridge
	led      *led.Host     // after that repair
	done     Repaired
	errs     []error
}

// note keeps the result for a box, or for everything boxes share if name is "".
func (r *repairs) note(name string, lines []string, err error) {
	for _, line := range lines {
		if name != "" {
			line = name + ": " + line
		}
		r.done.Lines = append(r.done.Lines, line)
	}
	if name == "" {
		name = "what boxes share"
	}
	r.errs = append(r.errs, fault.Wrap(r.verb+" "+name, err))
}

// repairBox repairs a box, and returns a line for each fault. The caller holds the lock of the box.
type repairBox func(context.Context, *box.Box) ([]string, error)

// each repairs the boxes with the names. A box in the hands of another boxrun comes last, because the other boxrun may be
// waiting for the box to be ready.
func (r *repairs) each(ctx context.Context, names []string, repair repairBox) {
	var busy []string
	for _, name := range names {
		unlock, err := r.l.TryLockBox(ctx, name)
		if errors.Is(err, box.ErrBusy) {
			busy = append(busy, name)
			continue
		}
		r.locked(ctx, name, unlock, err, repair)
	}
	for _, name := range busy {
		unlock, err := r.wait(ctx, name)
		r.lookAnew()
		if !errors.Is(err, box.ErrBusy) {
			r.locked(ctx, name, unlock, err, repair)
		}
	}
}

// lookAnew makes the next look at the host a fresh look.
func (r *repairs) lookAnew() {
	r.k.Reread()
	r.led = new(led.Host)
}

// wait takes the lock of a busy box. The error is ErrBusy when the patience is over.
func (r *repairs) wait(ctx context.Context, name string) (func(), error) {
	if r.patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.patience, box.ErrBusy)
		defer cancel()
	}
	return r.l.LockBox(ctx, name)
}

// locked repairs a box, and gives the lock of the box back. err is the error of taking the lock.
func (r *repairs) locked(ctx context.Context, name string, unlock func(), err error, repair repairBox) {
	if err != nil {
		r.note(name, nil, err)
		return
	}
	defer unlock()
	b, err := r.l.Load(name)
	if errors.Is(err, box.ErrUnreadable) {
		r.errs = append(r.errs, err)
		return
	}
	if err != nil {
		r.note(name, nil, files.IgnoreNotExist(err)) // the box may have gone meanwhile
		return
	}
	lines, err := repair(ctx, b)
	r.note(name, lines, err)
}

// rules repairs the name servers and the rules of a running box, and before the rules the network the box shares with
// others. The rules come last, and come whatever became of the rest.
func (r *repairs) rules(ctx context.Context, b *box.Box) ([]string, error) {
	if b.Phase != box.Running || !b.Alive() {
		return nil, nil
	}
	r.done.Boxes++
	servers, serversErr := conf.TellServers(ctx, r.l.Store, b)
	held, heldErr := mendHeld(ctx, r.l.Store, b)
	servers, serversErr = append(servers, held...), errors.Join(serversErr, heldErr)
	if !b.Bridged() {
		way, err := lan.Repair(r.l.Store, r.k, b)
		return append(servers, way...), errors.Join(serversErr, err)
	}
	if bridge := b.Profile.Network.Bridge; !slices.Contains(r.bridges, bridge) {
		lines, err := network.RepairShared(ctx, r.l.Store, r.k, b)
		r.note("", lines, err)
		r.bridges = append(r.bridges, bridge)
	}
	rules, err := network.RepairRules(r.l.Store, r.k, r.led, b)
	way, wayErr := lan.Repair(r.l.Store, r.k, b)
	return slices.Concat(servers, rules, way), errors.Join(serversErr, err, wayErr)
}

// whole repairs a running box as up does. A dead box is cleared away, unless systemd is about to start the box anew.
func (r *repairs) whole(ctx context.Context, b *box.Box) ([]string, error) {
	if b.Phase != box.Running || !b.Alive() {
		if units.Supervises(ctx, b) {
			return nil, nil
		}
		line := fmt.Sprintf("took away what was left of it: it was %s; \"boxrun up %s\" starts it anew", b.State(), b.Name)
		_, err := r.l.clear(ctx, r.k, b, rollbackTimeout)
		return []string{line}, err
	}
	r.done.Boxes++
	held, heldErr := mendHeld(ctx, r.l.Store, b)
	lines, err := network.Repair(ctx, r.l.Store, r.k, b)
	lines, err = append(lines, held...), errors.Join(err, heldErr)
	if errors.Is(err, netsetup.ErrNoAddress) {
		return lines, nil // a check of the doctor's names the box: only a restart repairs that
	}
	if err != nil {
		return lines, err
	}
	ping, err := network.RepairPing(b)
	return append(lines, ping...), err
}

// andLooks returns a repair that also has a running box looked at again. The looks come last, as a look may take long.
func (r *repairs) andLooks(repair repairBox) repairBox {
	return func(ctx context.Context, b *box.Box) ([]string, error) {
		lines, err := repair(ctx, b)
		if b.Profile.Health.Interval == 0 || b.Phase != box.Running || !b.Alive() || !units.Booted() {
			return lines, err
		}
		looks, looksErr := resumeLooks(ctx, r.l, b)
		return append(lines, looks...), errors.Join(err, looksErr)
	}
}

// mendHeld is mendEntry, and puts back the limits that the box was started with.
func mendHeld(ctx context.Context, s *box.Store, b *box.Box) ([]string, error) {
	held, heldErr := limits.Repair(ctx, b)
	entry, entryErr := mendEntry(ctx, s, b)
	return append(held, entry...), errors.Join(heldErr, entryErr)
}

// mendEntry repairs what commands enter a running box by: files of boxrun's, and what machined knows.
func mendEntry(ctx context.Context, s *box.Store, b *box.Box) ([]string, error) {
	lines, err := s.RepairEntry(b)
	return append(lines, machine.Repair(ctx, b)...), err
}
