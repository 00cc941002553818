package launcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/confine"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/journal"
	"boxrun/launcher/lan"
	"boxrun/launcher/limits"
	"boxrun/launcher/machine"
	"boxrun/launcher/network"
	"boxrun/launcher/process"
	"boxrun/launcher/storage"
	"boxrun/launcher/tasks"
	"boxrun/launcher/timing"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/six"
	"boxrun/netsetup/snapshot"
	"boxrun/profiles"
)

// UpOptions are the choices for an up.
type UpOptions struct {
	NoWait  bool           // return when the rules are in place, without waiting for the box's systemd
	Timeout *time.Duration // nil: the profile's ready.timeout
	Replace bool           // stop a box with a changed profile or image, and start the box anew
	Anew    bool           // the same for an unchanged box
	Force   bool           // take the overlay over from another machine
	Timing  bool           // tell where the time went
	Turn    *tasks.Turn    // beside other boxes: when the box takes its address

	Unhealthy bool // start anew a box that looks found unhealthy, and leave any other

	StopTimeout *time.Duration // for the stop of a box to start anew; nil: the stop_timeout of its start
}

// Up is the outcome of an up.
type Up struct {
	Box      *box.Box
	Started  bool               // false: the box was up before
	Repaired []string           // of a box up before: a line for each fault
	Followed []string           // of a box up before: a line for each change of published ports and who may reach them
	Since    Changes            // of a box up before: what changed since its start
	Failed   []guest.FailedUnit // units that failed at boot, with their last log lines
	Ended    []string           // of a box that is ready: services that ran before, and have no process now
	wanted   []string           // units to be there in the box, of a box that is ready
	Killed   error              // ErrKilled: a box to start anew did not stop by itself
	Times    *timing.Times      // where the time went; nil unless asked for
	Host     []snapshot.Change  // changes of the host's network during the boot of a box sharing the network
}

// Up brings a box up, or checks and mends a running box. A failed start leaves nothing behind. A box not ready in time
// stays (ErrNotReady), and so does a box with a failed command in post_up (ErrHook). Remains of a killed boxrun are
// cleared first. From then on systemd watches an enabled box, which goes down again where its service is stopped at that
// moment. One that is powered off from inside before it is ready stays down: systemd is told that nothing has failed.
func (l *Launcher) Up(ctx context.Context, p profiles.Profile, o UpOptions) (Up, error) {
	process.CollectLate()
	if l.Caller.Unit == units.Instance(p) {
		if err := units.RefuseStopped(ctx, l.Caller.Unit); err != nil {
			return Up{}, err
		}
	}
	up, err := l.upLocked(ctx, p, o)
	if errors.Is(err, guest.ErrPoweredOff) && l.Caller.Unit == units.Instance(p) {
		return up, units.StopOwn(ctx, l.Store, err)
	}
	if up.Box == nil || err != nil && !Stays(err) {
		return up, err
	}
	watchErr := units.Supervise(ctx, l.Store, up.Box, p)
	if errors.Is(watchErr, units.ErrStopped) {
		_, downErr := l.Down(ctx, p.Name, o.StopTimeout)
		return up, errors.Join(watchErr, downErr)
	}
	return up, errors.Join(err, watchErr)
}

// Stays reports whether a box is up in spite of the error of an up.
func Stays(err error) bool { return errors.Is(err, fault.ErrNotReady) || errors.Is(err, fault.ErrHook) }

// upLocked is the part of an up done under the box's lock.
func (l *Launcher) upLocked(ctx context.Context, p profiles.Profile, o UpOptions) (Up, error) {
	unlock, err := l.LockBox(ctx, p.Name)
	if err != nil {
		return Up{}, err
	}
	defer unlock()
	if err := cmp.Or(units.Rearm(ctx, p.Name), storage.RefuseSilent(ctx, p)); err != nil {
		return Up{}, err
	}
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return Up{}, err
	}
	defer k.Close()

	u := &upRun{Launcher: l, k: k, p: p, o: o, times: timing.Start()}
	b, err := l.Load(p.Name)
	switch {
	case o.Unhealthy && err == nil:
		return u.heal(ctx, b)
	case o.Unhealthy && errors.Is(err, fs.ErrNotExist):
		return Up{}, nil // somebody took the box down
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return Up{}, err
	}
	up, err := u.bring(ctx, b)
	if o.Timing && up.Box != nil && (err == nil || Stays(err)) {
		up.Times = u.timed(ctx, up)
	}
	return up, err
}

// An upRun is one up at work, under the lock of its box.
type upRun struct {
	*Launcher
	k        *netsetup.Kernel
	p        profiles.Profile
	o        UpOptions
	times    *timing.Times
	restarts int         // systemd's starts of the box since somebody brought the box up, this start included
	healed   []time.Time // restarts because looks found the box unhealthy, this start included
}

// bring brings up the box with the record b; nil for none.
func (u *upRun) bring(ctx context.Context, b *box.Box) (Up, error) {
	if b == nil {
		return u.fresh(ctx)
	}
	u.o.Turn.End() // the box has an address
	if u.staysUp(ctx, b, u.p, u.o) {
		up, err := u.again(ctx, b)
		if err == nil || ctx.Err() != nil || Stays(err) || !b.Ends(ctx) {
			return up, err
		}
		// the box was dying as we came
	}
	return u.instead(ctx, b)
}

// staysUp reports whether an up leaves the running box in place, and mends the box.
func (l *Launcher) staysUp(ctx context.Context, b *box.Box, p profiles.Profile, o UpOptions) bool {
	return b.Phase == box.Running && b.Alive() && !o.Anew && (!o.Replace || !ChangesOf(ctx, l.Store, b, Now{Profile: p}).anew())
}

// fresh starts a box of which nothing exists yet.
func (u *upRun) fresh(ctx context.Context) (Up, error) {
	u.k.Reread() // an old box may have taken long to stop
	others, err := u.Others(u.p.Name)
	if err != nil {
		return Up{}, err
	}
	u.p = network.Follow(u.Store, u.p, others)
	f, err := u.examine(ctx, u.k, u.p, u.o.Force)
	if err != nil {
		return Up{}, err
	}
	u.times.Done("examined the host and the profile")
	defer u.moves.Keep(manyMoves)()
	changes, err := network.LookAtHost(u.p)
	if err != nil {
		return Up{}, err
	}
	up, err := u.bringUp(ctx, f)
	for tries := 1; u.mayTryAgain(ctx, err, tries); tries++ {
		u.Notef("%v; trying again", err)
		up, err = u.bringUp(ctx, f)
	}
	if four, ok := network.FourAlone(u.Store, u.p, err); ok {
		u.p = four
		return u.fresh(ctx)
	}
	since, lookErr := changes()
	up.Host = since
	return up, errors.Join(err, lookErr)
}

// maxTries limits how often one up starts a box while the host's systemd executes itself anew again and again.
const maxTries = 5

// mayTryAgain reports whether a start that has failed so often, last with err, may go well when tried again. A host that was too
// slow gets one more try, and none where somebody waits to take the box down. Of the failed start nothing may be left.
func (u *upRun) mayTryAgain(ctx context.Context, err error, tries int) bool {
	away := errors.Is(err, apptainer.ErrHostAway) && tries < maxTries
	busy := errors.Is(err, apptainer.ErrHostBusy) && tries == 1 && !u.StopWanted(u.p.Name)
	if ctx.Err() != nil || !away && !busy {
		return false
	}
	_, err = u.Load(u.p.Name)
	return errors.Is(err, fs.ErrNotExist)
}

// bringUp starts a box and waits for the box to be ready.
func (u *upRun) bringUp(ctx context.Context, f facts) (Up, error) {
	b, err := u.start(ctx, f)
	if err != nil {
		return Up{}, u.rollback(ctx, b, err)
	}
	up := Up{Box: b, Started: true}
	watched, unwatch := context.WithCancel(ctx)
	defer unwatch()
	ending := guest.WatchEnding(watched, b.Init)
	err = u.finish(ctx, b, &up)
	if errors.Is(err, fault.ErrNotStarted) && ending.PoweredOff() {
		err = &fault.Problem{Kind: guest.ErrPoweredOff, Text: b.Name + ": the box was powered off from inside before it was ready"}
	}
	if err != nil && !Stays(err) { // the box died, or a person gave up
		if errors.Is(err, fault.ErrNotStarted) {
			u.tellLastWords(ctx, b)
		}
		return up, u.rollback(ctx, b, err)
	}
	return up, err
}

// tellLastWords notes what a box said before it died in its start: its journal may go with it.
func (u *upRun) tellLastWords(ctx context.Context, b *box.Box) {
	const lines = 10
	words := journal.LastWords(ctx, u.Store, b, lines)
	if len(words) > 0 {
		u.Notef("%s: died with these words in its journal:", b.Name)
	}
	for _, line := range words {
		u.Notef("    %s", line)
	}
}

// awaitInit waits until the box's first process, boxrun itself, has confined the box and is the image's init. An init that
// has ended is no error here.
func (u *upRun) awaitInit(ctx context.Context, b *box.Box) error {
	err := confine.Await(ctx, b.Init, u.p)
	if !errors.Is(err, confine.ErrLoose) {
		return files.IgnoreNotExist(err)
	}
	return &fault.Problem{Kind: err, Text: b.Name + ": " + err.Error(),
		Hint: "look whether a bind of the profile hides what /sbin/init of the image is a link to; boxrun is put there as the box's first process"}
}

// finish waits until the box is ready, and runs post_up if due. From then on the box is looked at. Where nobody wants to
// wait, looks begin at once.
func (u *upRun) finish(ctx context.Context, b *box.Box, up *Up) error {
	if at := fileAtBoot(b.Name); at != "" && at != u.p.File {
		u.Notef("%s: warning: its profile is %s, and the next boot starts %s", b.Name, u.p.File, at)
	}
	if err := machine.Register(ctx, b); err != nil { // nothing of the box depends on it
		u.Notef("%s: machinectl does not know the box: %v", b.Name, err)
	}
	var err error
	if !u.o.NoWait {
		began, timeout := time.Now(), *cmp.Or(u.o.Timeout, &b.Profile.Ready.Timeout)
		err = lan.AwaitLease(ctx, u.Store, u.k, b, timeout, u.Live)
		if err == nil {
			err = u.await(ctx, b, timeout-time.Since(began), up)
		}
		if lateErr := lan.FollowLate(ctx, u.Store, u.k, b, lan.Usual()); lateErr != nil && ctx.Err() == nil { // status says the same
			u.Notef("%s: %v", b.Name, lateErr)
		}
		if up.Started && !units.AwaitStarted(ctx, b) && err == nil {
			err = fmt.Errorf("%s: %w", b.Name, units.ErrStopped)
		}
		u.times.Done("waited until the box was ready")
		if err == nil {
			err = u.runHooks(ctx, b, u.p)
		}
	}
	if err != nil && !Stays(err) {
		return err
	}
	u.keepLooking(ctx, b, up, !u.o.NoWait && !errors.Is(err, fault.ErrNotReady))
	return err
}

// again repairs a running box, and waits until the box is ready.
func (u *upRun) again(ctx context.Context, b *box.Box) (Up, error) {
	followed, err := u.follow(ctx, b)
	if err != nil {
		return Up{Box: b}, err
	}
	repaired, err := u.mend(ctx, b)
	u.times.Done("looked for what drifted, and mended it")
	up := Up{Box: b, Repaired: repaired, Followed: followed, Since: ChangesOf(ctx, u.Store, b, Now{Profile: u.p})}
	if err != nil {
		return up, err
	}
	return up, u.finish(ctx, b, &up)
}

// mend mends what has drifted of a running box, and returns a line for each thing, beside an error too.
func (u *upRun) mend(ctx context.Context, b *box.Box) (repaired []string, err error) {
	if repaired, err = network.Repair(ctx, u.Store, u.k, b); err != nil {
		return repaired, err
	}
	if err := network.SettleAgain(ctx, u.Store, b); err != nil {
		return repaired, err
	}
	network.LookAhead(u.Store, u.k, b)()
	held, err := limits.HoldAnew(ctx, u.Store, b, u.p)
	entry, entryErr := mendEntry(ctx, u.Store, b)
	return slices.Concat(repaired, held, entry), cmp.Or(err, entryErr)
}

// follow brings published ports to a running box whose profile differs from that of its start in nothing else but limits. Where
// the limits are refused the ports stay, too.
func (u *upRun) follow(ctx context.Context, b *box.Box) ([]string, error) {
	if !limits.MadeOf(u.Store, b, u.p) {
		return nil, nil
	}
	if u.p.Resources != b.Profile.Resources {
		if err := limits.Refuse(u.p); err != nil {
			return nil, err
		}
	}
	return network.Republish(ctx, u.Store, u.k, b, u.p)
}

// heal starts an unhealthy box anew. The start counts as one of systemd's.
func (u *upRun) heal(ctx context.Context, b *box.Box) (Up, error) {
	restarts, ok := u.unhealthy(b)
	if !ok {
		return Up{}, nil
	}
	u.restarts, u.healed = b.Restarts+1, restarts
	return u.instead(ctx, b)
}

// instead clears the remains of the box, dead or alive, and starts the box anew. Refusals come first, while the old box
// still stands. For a running box, instead notes what has changed.
func (u *upRun) instead(ctx context.Context, b *box.Box) (Up, error) {
	if _, err := u.examine(ctx, u.k, u.p, u.o.Force); err != nil {
		return Up{}, err
	}
	if b.Phase == box.Running && u.Caller.Unit == units.Instance(u.p) {
		u.restarts = b.Restarts + 1
	}
	var words []string
	if b.Alive() {
		words = ChangesOf(ctx, u.Store, b, Now{Profile: u.p}).Words()
	}
	if ctx.Err() != nil {
		return Up{}, context.Cause(ctx)
	}
	if len(words) > 0 {
		u.Notef("%s: starts anew: its %s changed since the start%s", b.Name, strings.Join(words, " and its "), b.Loses())
	}
	b.Anew = true
	_, killed := u.clear(ctx, u.k, b, *cmp.Or(u.o.StopTimeout, &b.Profile.Systemd.StopTimeout))
	if killed != nil && !errors.Is(killed, fault.ErrKilled) {
		return Up{}, killed
	}
	up, err := u.fresh(ctx)
	up.Killed = killed
	return up, err
}

// rollback clears a box after a failed start. Rolling back is the work of down; an interrupt does not cut it short.
func (u *upRun) rollback(ctx context.Context, b *box.Box, cause error) error {
	if b == nil {
		return cause
	}
	timeout := rollbackTimeout
	if b.Phase == box.Running { // the box's services run, and may have begun to write
		timeout = stopTimeout(b)
	}
	_, err := u.clear(context.WithoutCancel(ctx), u.k, b, timeout)
	if errors.Is(err, fault.ErrKilled) {
		err = nil // a box that failed to start owes nobody a clean end
	}
	return errors.Join(cause, err)
}

// rollbackTimeout is how long a box may take to stop after a failed start.
const rollbackTimeout = 10 * time.Second

// start takes a box from nothing to phase running. With an error, start returns the box to clear, or nil if nothing was
// begun.
func (u *upRun) start(ctx context.Context, f facts) (*box.Box, error) {
	b, err := u.New(u.p, f.unit, f.mtu)
	if err != nil {
		return nil, err
	}
	b.Restarts, b.OtherLeases = u.restarts, f.leases
	lan.Foresee(b, f.parent)
	u.o.Turn.Await(ctx)
	err = u.reserve(ctx, b)
	u.o.Turn.End()
	if err != nil {
		return b, err
	}
	if err := u.boot(ctx, b, f); err != nil {
		return b, err
	}
	b.Phase, b.MadeOverlay, b.MadeDirs = box.Running, false, nil
	if err := u.Save(b); err != nil {
		return b, err
	}
	return b, network.Settle(ctx, u.Store, b)
}

// reserve raises the network, and saves the box with an address that no other box has. From then on the box's image is
// in use.
func (u *upRun) reserve(ctx context.Context, b *box.Box) error {
	unlock, err := u.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	others, err := u.Others(b.Name)
	if err != nil {
		return err
	}
	// A concurrent box has either claimed its needs since refuse looked, and is seen here, or has not looked yet.
	if err := refuseAmong(b.Profile, others); err != nil {
		return err
	}
	if err := b.NoteImage(b.Profile.Image); err != nil {
		return err
	}
	b.NoteCgroups(others)
	if err := u.Save(b); err != nil || !b.Bridged() {
		return err
	}
	repaired, err := network.Lay(u.Store, u.k, network.Of(u.Store, b))
	if err != nil {
		return err
	}
	for _, line := range repaired {
		u.Notef("mended: %s", line)
	}
	if err := network.SweepReserved(u.Store, append(others, b)); err != nil {
		return err
	}
	if b.Addr, err = network.Address(u.Store, b, others); err != nil {
		return err
	}
	return u.Save(b)
}

// refuseAmong refuses what the profile needs and another box has: a port, a bridge with other settings, an overlay.
func refuseAmong(p profiles.Profile, others []*box.Box) error {
	errs := []error{network.RefusePublished(p, others), network.RefuseNetwork(p, others), lan.RefuseTaken(p, others)}
	if p.Storage.Root == "overlay" {
		errs = append(errs, storage.RefuseTaken(p, others))
	}
	return errors.Join(errs...)
}

// boot runs Apptainer, and puts the box's rules in place while the command line still sleeps. The command line returns
// 200 ms after the box's init runs (PostStartProcess, then Launcher.Exec, sleep 100 ms each). If the command line is
// our child, boot reaps the child before returning; otherwise systemd does.
func (u *upRun) boot(ctx context.Context, b *box.Box, f facts) error {
	boxes, err := u.Glance()
	if err != nil {
		return err
	}
	w := plan(u.Store, u.p, b, boxes, f)
	u.warnOfProfile(b, f)
	warnOfInotify(u.Store, b)
	if err := w.prepare(ctx, u.Store); err != nil {
		return err
	}
	u.times.Done(laid)
	ctx, cancel := context.WithTimeout(ctx, units.BootTimeout(u.p))
	defer cancel()
	cli, unit, err := u.run(ctx, w)
	if err != nil {
		return err
	}
	u.times.Done(asked)
	b.Unit = unit
	booted := u.lead(ctx, b)
	u.times.Done("put the rules in place")
	var warn func()
	if booted == nil {
		warn = network.LookAhead(u.Store, u.k, b)
		u.times.Done("looked for what is in the way of the box")
		booted = u.connect(ctx, b, cli)
	}
	if booted == nil {
		booted = u.awaitInit(ctx, b)
		u.times.Done("waited for the box's init")
	}
	if booted == nil && b.Alive() {
		warn()
		u.times.Done("looked once more, with the box's veth")
	}
	if booted == nil && b.Alive() && cli.Left() {
		return nil
	}
	if err := cli.Wait(ctx); err != nil {
		return err
	}
	if b.Init.PID != 0 && !b.Alive() && ctx.Err() == nil && !errors.Is(booted, fault.ErrNotStarted) {
		return cli.Failed(errors.New("its init ended at once")) // what went wrong besides, as at its veth, follows from that
	}
	return booted
}

// lead puts the rules in place that lead to the box, while Apptainer makes the box: those that boxes share, and the box's
// own for the address reserved.
func (u *upRun) lead(ctx context.Context, b *box.Box) error {
	if !b.Bridged() {
		return nil
	}
	unlock, err := u.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	boxes, err := u.Glance()
	if err != nil {
		return err
	}
	if err := network.Sweep(u.Store, u.k, boxes); err != nil {
		return err
	}
	repaired, err := network.Lead(u.Store, u.k, b)
	for _, line := range repaired {
		u.Notef("mended: %s", line)
	}
	return err
}

// connect waits for Apptainer's record, notes the box's processes, and installs the box's rules.
func (u *upRun) connect(ctx context.Context, b *box.Box, cli *apptainer.Command) error {
	r, err := cli.AwaitRecord(ctx, b.Record)
	if err != nil {
		return err
	}
	u.times.Done("waited for Apptainer's record")
	if err := adopt(b, r); err != nil {
		return cli.Failed(err)
	}
	if err := cmp.Or(u.Save(b), u.KeepEntry(b)); err != nil {
		return err
	}
	if !b.Profile.Security.Confined() { // the first process of a confined box does the same
		err := guest.MakeRootBindable(b.Init.PID)
		if err == nil && b.Bridged() {
			err = dump.InNetworkOf(b.Init.PID, six.BelieveNobody)
		}
		if err != nil {
			return cli.Failed(err)
		}
	}
	if err := limits.HoldAtStart(ctx, b); err != nil {
		return err
	}
	err = u.publish(ctx, b)
	u.times.Done("set up the veth, published ports")
	return err
}

// publish installs the box's rules. Somebody may have flushed the rules that boxes share while the box booted: then
// iptables fails, and publish puts the shared rules back and tries again.
func (u *upRun) publish(ctx context.Context, b *box.Box) error {
	err := network.Publish(u.Store, u.k, b)
	if err == nil {
		return nil
	}
	lost, repairErr := network.RepairShared(ctx, u.Store, u.k, b)
	for _, line := range lost {
		u.Notef("%s: mended: %s", b.Name, line)
	}
	if len(lost) == 0 || repairErr != nil {
		return errors.Join(err, repairErr)
	}
	return network.Publish(u.Store, u.k, b)
}
