package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/network"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// Reset takes away all that carries boxrun's name, files and rules, whatever is left of its records. It refuses while
// boxes are up, and with force takes them down first; it refuses always while something else is on a bridge of boxrun's.
func Reset(ctx context.Context, l *launcher.Launcher, force bool) error {
	k, err := network.OpenKernel()
	if err != nil {
		return err
	}
	defer k.Close()
	unread := l.UnreadBoxes() // while there still are records of that name
	if err := refuseReset(l, k, unread, force); err != nil {
		return err
	}
	if err := stopHealing(ctx); err != nil {
		return err
	}
	if err := errors.Join(removeUnreadable(ctx, l), downAll(ctx, l), stopStrays(ctx, l, k, unread)); err != nil {
		return err
	}
	unlock, err := l.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := refuseReset(l, k, unread, false); err != nil {
		return err // a box came up in between
	}
	return errors.Join(undoAll(l, k), removeTraces(l, k), removeFiles(l), removeAllUnits(ctx, l))
}

// stopHealing stops the services that would put back what a reset takes away.
func stopHealing(ctx context.Context) error {
	files, err := units.UnitFiles()
	if len(files) == 0 || err != nil || !units.Booted() {
		return err
	}
	host, err := units.Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	return host.StopHealing(ctx)
}

// removeAllUnits disables all boxes, removes the units, and has systemd forget them. systemd itself takes the links away,
// and the directories it made for them.
func removeAllUnits(ctx context.Context, l *launcher.Launcher) error {
	if files, err := units.UnitFiles(); len(files) == 0 || err != nil {
		return err
	}
	unlock, err := units.LockUnits(ctx, l.Store)
	if err != nil {
		return err
	}
	defer unlock()
	files, err := units.UnitFiles()
	return errors.Join(err, units.RemoveUnitFiles(ctx, files))
}

// refuseReset names what is in the way of a reset.
func refuseReset(l *launcher.Launcher, k *netsetup.Kernel, unread []string, force bool) error {
	strays, others, err := l.Strays(k, unread)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return fault.Refused("stop what uses them first", "on the bridges that boxrun made are devices of others: %s", strings.Join(others, ", "))
	}
	names := up(l)
	for _, b := range strays {
		names = append(names, b.Name)
	}
	if len(names) == 0 || force {
		return nil
	}
	slices.Sort(names)
	return fault.Refused("run \"boxrun down --all\" first, or use --force, which takes them down",
		"boxes are up: %s", strings.Join(slices.Compact(names), ", "))
}

// up gives the names of the boxes that run or are about to. Records that cannot be read say nothing.
func up(l *launcher.Launcher) []string {
	var names []string
	for _, file := range l.Records("boxes/*.json") {
		b, err := l.Load(box.NameOf(file))
		if err == nil && (b.Alive() || b.Phase == box.Starting) {
			names = append(names, b.Name)
		}
	}
	return names
}

// removeUnreadable removes the records that cannot be read, as no verb would get past them. What they were about is found
// by its name.
func removeUnreadable(ctx context.Context, l *launcher.Launcher) error {
	unlock, err := l.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	_, unread := readPlans(l)
	var errs []error
	for _, h := range unread {
		errs = append(errs, files.RemoveIfThere(h.What))
	}
	return errors.Join(errs...)
}

// downAll takes down boxes that run, and clears what is left of those that do not.
func downAll(ctx context.Context, l *launcher.Launcher) error {
	files := l.Records("boxes/*.json")
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = box.NameOf(file)
	}
	var errs []error
	for _, name := range l.StopOrder(names) {
		_, err := l.Down(ctx, name, nil)
		if !errors.Is(err, fault.ErrKilled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// stopStrays stops the boxes of which there is no record, and waits for their services: these run "boxrun down", which takes
// locks, and where a box had to be killed systemd would start it anew.
func stopStrays(ctx context.Context, l *launcher.Launcher, k *netsetup.Kernel, unread []string) error {
	strays, _, err := l.Strays(k, unread)
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range strays {
		errs = append(errs, fault.Wrap("stopping "+b.Name, l.StopStray(ctx, b)))
	}
	return errors.Join(errs...)
}

// undoAll undoes what there are records of: they know what somebody else's bridge was like before.
func undoAll(l *launcher.Launcher, k *netsetup.Kernel) error {
	plans, _ := readPlans(l) // those that cannot be read are what the traces are for
	var errs []error
	for _, p := range slices.Backward(plans) {
		k.Reread()
		if err := p.Undo(k); !errors.Is(err, netsetup.ErrInUse) { // those rules go with the traces
			errs = append(errs, err)
		}
		for _, line := range p.Stays {
			l.Notef("stays: %s", line)
		}
	}
	return errors.Join(errs...)
}

// removeTraces removes what carries boxrun's name: rules, bridges, what firewalld knows of them, and the files of a setup.
func removeTraces(l *launcher.Launcher, k *netsetup.Kernel) error {
	traces, err := netsetup.FindTraces(k)
	if err != nil {
		return err
	}
	errs := []error{traces.Remove(k)}
	for _, bridge := range append(traces.Names(), profiles.Default().Network.Bridge) {
		zone := netsetup.Plan{Zone: &netsetup.Zone{Device: bridge}}
		errs = append(errs, zone.Undo(k))
	}
	if files, err := netsetup.SetupFiles(network.Etc); err == nil && len(files) > 0 {
		l.Notef("stays until the next boot: the sysctls and modules of the host setup")
	}
	setup := netsetup.SetupRemoval(network.Etc)
	err = errors.Join(append(errs, setup.Undo(k))...)
	if errors.Is(err, netsetup.ErrReadOnly) {
		return fault.Refused("make it writable, then again", "%v", err)
	}
	return reloadProblem(err)
}

// removeFiles removes the state, and what CNI keeps of boxrun's networks. The lock that is held goes when it is given back.
func removeFiles(l *launcher.Launcher) error {
	results, err := filepath.Glob("/var/lib/cni/results/boxrun-*")
	if err != nil {
		return err
	}
	state, err := filepath.Glob(l.Path("*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range append(results, state...) {
		if path != l.Path("locks") {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// ResetCommands gives what a person would type into bash to have what HostReset gives: first what boxrun has no
// record of, then what down takes away, then the setup.
func ResetCommands(l *launcher.Launcher) ([]string, error) {
	k, err := network.OpenKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	traces, err := netsetup.FindTraces(k)
	if err != nil {
		return nil, err
	}
	names := up(l)
	lines, err := stopCommands(l, k, names)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		lines = append(lines, anyway(traces.Commands(), len(lines) > 0)...)
	} else {
		plans, _ := readPlans(l)
		lines = append(append(lines, traces.Without(ownersOf(plans)).Commands()...), "boxrun down "+files.QuoteAll(names))
	}
	units, err := unitCommands()
	if err != nil {
		return nil, err
	}
	lines = append(lines, units...)
	setup, err := netsetup.SetupFiles(network.Etc)
	if err != nil {
		return nil, err
	}
	if len(setup) > 0 {
		lines = append(lines, netsetup.SetupRemoval(network.Etc).UndoCommands()...)
	}
	if files.Exists(l.Dir) || len(lines) > 0 { // a box that stops gives back its lease there
		lines = append(lines, "rm -rf "+files.Quote(l.Dir))
	}
	return lines, nil
}

// stopCommands gives the commands that stop the boxes of which there is no record: those but known.
func stopCommands(l *launcher.Launcher, k *netsetup.Kernel, known []string) ([]string, error) {
	strays, _, err := l.Strays(k, l.UnreadBoxes())
	var lines []string
	if files.Exists(filepath.Join(units.UnitDir, units.WatchUnit)) {
		lines = append(lines, "systemctl stop "+strings.Join(units.HealingUnits(), " "))
	}
	for _, b := range strays {
		if !slices.Contains(known, b.Name) {
			lines = append(lines,
				fmt.Sprintf("kill -s RTMIN+3 %d", b.Init.PID),
				fmt.Sprintf("while [ -e /proc/%d ]; do sleep 0.1; done", b.Master.PID))
		}
	}
	return lines, err
}

// unitCommands gives the commands that disable every box.
func unitCommands() ([]string, error) {
	paths, err := units.UnitFiles()
	if len(paths) == 0 || err != nil {
		return nil, err
	}
	var lines []string
	if enabled := units.EnabledAmong(paths); len(enabled) > 0 {
		lines = append(lines, "systemctl disable -q "+files.QuoteAll(enabled))
	}
	for _, file := range paths {
		switch {
		case strings.HasSuffix(filepath.Dir(file), ".wants"): // systemctl has removed it
		case strings.HasSuffix(file, ".d"):
			lines = append(lines, files.RemoveEmptyCommand(file))
		default:
			lines = append(lines, "rm -f "+files.Quote(file))
		}
	}
	return append(lines, "systemctl daemon-reload"), nil
}

// anyway has commands succeed where what they remove has gone already: a box that was stopped by hand may have a service
// that clears up after it.
func anyway(lines []string, yes bool) []string {
	if !yes {
		return lines
	}
	var all []string
	for _, line := range lines {
		all = append(all, line+" || true")
	}
	return all
}
