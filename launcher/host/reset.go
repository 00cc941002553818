package host

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/lan"
	"boxrun/launcher/list"
	"boxrun/launcher/network"
	"boxrun/launcher/storage"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// reset is everything of boxrun's on the host, as found by one look. A reset removes what its looks found; the dry run
// prints the commands to remove the same.
type reset struct {
	l      *launcher.Launcher
	k      *netsetup.Kernel
	unread []string // names of the boxes with records unreadable before the reset

	broken  []netsetup.Holding // unreadable records
	plans   []netsetup.Plan    // of all other records
	records []string           // names of the boxes with a readable record
	boxes   []string           // records of boxes running or about to run
	strays  []*box.Box         // running instances of boxrun's, with a record or without
	others  []string           // devices of others on bridges made by boxrun
	traces  netsetup.Traces    // of boxrun's name in the host's network
	ways    []string           // devices by which the host reaches boxes on a LAN
	setup   []string           // files of a host setup
	units   []string           // files of units, in an order fit for removal
}

// lookReset finds everything of boxrun's on the host. Running instances named in unread are boxrun's: they have or had
// an unreadable record.
func lookReset(l *launcher.Launcher, k *netsetup.Kernel, unread []string) (reset, error) {
	r := reset{l: l, k: k, unread: unread}
	r.plans, r.broken = readPlans(l)
	boxes, _ := l.All() // broken covers unreadable records
	r.records = box.Names(boxes)
	r.boxes = box.Names(slices.DeleteFunc(boxes, func(b *box.Box) bool { return !b.Alive() && b.Phase != box.Starting }))
	var strayErr, traceErr, setupErr, unitErr error
	r.strays, r.others, strayErr = l.Strays(k, unread)
	r.traces, traceErr = netsetup.FindTraces(k)
	r.ways = lan.Traces()
	r.setup, setupErr = netsetup.SetupFiles(etc)
	r.units, unitErr = units.Files()
	return r, errors.Join(strayErr, traceErr, setupErr, unitErr)
}

// Reset removes everything with boxrun's name, files and rules, even without records. While boxes are up, Reset
// refuses; with force, Reset takes the boxes down first. Reset always refuses while a foreign device is on a bridge of
// boxrun's.
func Reset(ctx context.Context, l *launcher.Launcher, force bool) error {
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return err
	}
	defer k.Close()
	unread := l.Unread() // while the records still exist
	r, err := lookReset(l, k, unread)
	if err != nil {
		return err
	}
	err = r.refuseDevices()
	if !force {
		err = cmp.Or(err, r.refuseBoxes())
	}
	if err != nil {
		return err
	}
	if err := r.stopRepairs(ctx); err != nil { // they would put back what is removed below
		return err
	}
	if err := errors.Join(r.removeBroken(ctx), r.downAll(ctx), r.stopStrays(ctx)); err != nil {
		return err
	}
	unlock, err := l.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if r, err = lookReset(l, k, unread); err != nil {
		return err
	}
	if err := cmp.Or(r.refuseDevices(), r.refuseBoxes()); err != nil {
		return err // a box came up in between
	}
	return errors.Join(r.undoPlans(), r.removeTraces(), r.removeFiles(), r.removeUnits(ctx))
}

// refuseDevices refuses a reset under devices of others.
func (r reset) refuseDevices() error {
	if len(r.others) == 0 {
		return nil
	}
	return fault.Refused("stop what uses them first", "on the bridges that boxrun made are devices of others: %s", strings.Join(r.others, ", "))
}

// refuseBoxes refuses a reset under boxes.
func (r reset) refuseBoxes() error {
	names := slices.Concat(r.boxes, box.Names(r.strays))
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fault.Refused("run \"boxrun down --all\" first, or use --force, which takes them down",
		"boxes are up: %s", strings.Join(slices.Compact(names), ", "))
}

// stopRepairs stops the services that run "boxrun repair".
func (r reset) stopRepairs(ctx context.Context) error {
	if len(r.units) == 0 || !units.Booted() {
		return nil
	}
	host, err := units.Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	return host.StopRepairers(ctx)
}

// removeBroken removes unreadable records, because no verb would get past them. stopStrays finds their boxes by name.
func (r reset) removeBroken(ctx context.Context) error {
	unlock, err := r.l.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return fault.Each(r.broken, func(h netsetup.Holding) error { return files.RemoveIfThere(h.What) })
}

// downAll takes running boxes down, and clears the remains of other boxes.
func (r reset) downAll(ctx context.Context) error {
	return fault.Each(r.l.StopOrder(r.records), func(name string) error {
		if _, err := r.l.Down(ctx, name, nil); !errors.Is(err, fault.ErrKilled) {
			return err
		}
		return nil
	})
}

// stopStrays stops the instances left after downAll, and waits for their services. The services run "boxrun down", so
// they take locks. If a box had to be killed, systemd would start the box anew.
func (r reset) stopStrays(ctx context.Context) error {
	strays, _, err := r.l.Strays(r.k, r.unread)
	if err != nil {
		return err
	}
	return fault.Each(strays, func(b *box.Box) error { return fault.Wrap("stopping "+b.Name, r.l.StopStray(ctx, b)) })
}

// undoPlans undoes all plans on record. The records know the earlier state of somebody else's bridge.
func (r reset) undoPlans() error {
	slices.Reverse(r.plans)
	return fault.Each(r.plans, func(p netsetup.Plan) error {
		r.k.Reread()
		err := p.Undo(r.k)
		for _, line := range p.Stays {
			r.l.Notef("stays: %s", line)
		}
		if !errors.Is(err, netsetup.ErrInUse) { // removeTraces removes the rules in use
			return err
		}
		return nil
	})
}

// removeTraces removes everything with boxrun's name left by undoPlans: rules, bridges, firewalld's knowledge of the
// bridges, and the files of a setup.
func (r reset) removeTraces() error {
	traces, err := netsetup.FindTraces(r.k)
	if err != nil {
		return err
	}
	bridges := append(traces.Names(), profiles.Default().Network.Bridge)
	_, wayErr := lan.Sweep(r.k, nil)
	err = errors.Join(wayErr, traces.Remove(r.k), fault.Each(bridges, func(bridge string) error {
		zone := netsetup.Plan{Zone: &netsetup.Zone{Device: bridge}}
		return zone.Undo(r.k)
	}))
	if len(r.setup) > 0 {
		r.l.Notef("stays until the next boot: the sysctls and modules of the host setup")
	}
	err = errors.Join(err, netsetup.SetupRemoval(etc).Undo(r.k))
	if errors.Is(err, netsetup.ErrReadOnly) {
		return fault.Refused("make it writable, then again", "%v", err)
	}
	return setupProblem(err)
}

// removeFiles removes the state, and CNI's files about boxrun's networks. The lock held now is removed on its release.
func (r reset) removeFiles() error {
	results, _ := filepath.Glob("/var/lib/cni/results/boxrun-*") // the pattern is well-formed
	journals := fault.Each(storage.UnmadeMemories(r.l.Store), files.Removal.Do)
	return errors.Join(journals, fault.Each(append(results, r.l.Records("*")...), func(path string) error {
		if path == r.l.Path("locks") {
			return nil
		}
		return os.RemoveAll(path)
	}))
}

// removeUnits disables all boxes, removes the units, and makes systemd forget them. systemd itself removes the links,
// and the directories made for them.
func (r reset) removeUnits(ctx context.Context) error {
	if len(r.units) == 0 {
		return nil
	}
	unlock, err := units.Lock(ctx, r.l.Store)
	if err != nil {
		return err
	}
	defer unlock()
	files, err := units.Files() // as they are under the lock
	return errors.Join(err, units.RemoveFiles(ctx, files))
}

// ResetCommands returns commands for bash with the effect of Reset: first for instances and traces without a record,
// then "boxrun down", then for the setup.
func ResetCommands(l *launcher.Launcher) ([]string, error) {
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	r, err := lookReset(l, k, l.Unread())
	if err != nil {
		return nil, err
	}
	lines := slices.Concat(r.stopCommands(), r.unitCommands())
	if len(r.setup) > 0 {
		lines = append(lines, netsetup.SetupRemoval(etc).UndoCommands()...)
	}
	if files.Exists(l.Dir) || len(lines) > 0 { // a stopping box gives back its lease there
		lines = append(lines, "rm -rf "+files.Quote(l.Dir))
	}
	lines = append(lines, list.Map(storage.UnmadeMemories(l.Store), files.Removal.Command)...)
	return lines, nil
}

// stopCommands returns commands to stop all boxes, and to remove the traces without a record. If all traces are without
// a record and instances are stopped, the commands succeed even for vanished traces: a box stopped by hand may have a
// service that clears up after the box.
func (r reset) stopCommands() []string {
	var lines []string
	if slices.ContainsFunc(r.units, func(file string) bool { return filepath.Base(file) == units.WatchUnit }) {
		lines = append(lines, "systemctl stop "+strings.Join(units.Repairers(), " "))
	}
	for _, b := range r.strays {
		if slices.Contains(r.boxes, b.Name) {
			continue
		}
		stop := launcher.StopCommands(b)
		if word := units.EnabledAs(b.Name); word != "" { // else systemd would start the box anew
			lines = append(lines, "systemctl stop "+files.Quote("boxrun@"+word+".service"))
			stop[0] += " 2>/dev/null || true"
		}
		lines = append(lines, stop...)
	}
	if len(r.boxes) > 0 {
		abandoned := r.traces.Without(ownersOf(r.plans)).Commands()
		return append(append(lines, abandoned...), "boxrun down "+files.QuoteAll(r.boxes))
	}
	anyway := ""
	if len(lines) > 0 {
		anyway = " || true"
	}
	for _, line := range append(r.traces.Commands(), lan.TypedTraces(r.ways)...) {
		lines = append(lines, line+anyway)
	}
	return lines
}

// unitCommands returns commands to disable every box and to remove the units.
func (r reset) unitCommands() []string {
	if len(r.units) == 0 {
		return nil
	}
	var lines []string
	if enabled := units.EnabledAmong(r.units); len(enabled) > 0 {
		lines = append(lines, "systemctl disable -q "+files.QuoteAll(enabled))
	}
	for _, file := range r.units {
		switch {
		case strings.HasSuffix(filepath.Dir(file), ".wants"): // systemctl has removed the link
		case strings.HasSuffix(file, ".d"):
			lines = append(lines, files.RemoveEmptyCommand(file))
		default:
			lines = append(lines, "rm -f "+files.Quote(file))
		}
	}
	return append(lines, "systemctl daemon-reload")
}
