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

// Reset removes everything with boxrun's name, files and rules, even without records. While boxes are up, HostReset
// refuses; with force, HostReset takes the boxes down first. It always refuses while a foreign device is on a bridge of
// boxrun's.
func Reset(ctx context.Context, l *launcher.Launcher, force bool) error {
	k, err := network.OpenKernel()
	if err != nil {
		return err
	}
	defer k.Close()
	unread := l.UnreadBoxes() // while the records still exist
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

// stopHealing stops the services that would put back what a reset removes.
func stopHealing(ctx context.Context) error {
	files, err := units.Files()
	if len(files) == 0 || err != nil || !units.Booted() {
		return err
	}
	host, err := units.Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	return host.StopRepairers(ctx)
}

// removeAllUnits disables all boxes, removes the units, and makes systemd forget them. systemd itself removes the
// links, and the directories made for them.
func removeAllUnits(ctx context.Context, l *launcher.Launcher) error {
	if files, err := units.Files(); len(files) == 0 || err != nil {
		return err
	}
	unlock, err := units.Lock(ctx, l.Store)
	if err != nil {
		return err
	}
	defer unlock()
	files, err := units.Files()
	return errors.Join(err, units.RemoveFiles(ctx, files))
}

// refuseReset refuses a reset, and names the obstacles: other devices on boxrun's bridges and, without force, boxes.
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

// up returns the names of the boxes running or about to run. Unreadable records do not count.
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

// removeUnreadable removes unreadable records, because no verb would get past them. HostReset finds their subjects by
// name instead.
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

// downAll takes running boxes down, and clears the remains of other boxes.
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

// stopStrays stops the boxes without a record, and waits for their services. The services run "boxrun down", so they
// take locks. If a box had to be killed, systemd would start the box anew.
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

// undoAll undoes all plans on record. The records know the earlier state of somebody else's bridge.
func undoAll(l *launcher.Launcher, k *netsetup.Kernel) error {
	plans, _ := readPlans(l) // removeTraces covers unreadable plans
	var errs []error
	for _, p := range slices.Backward(plans) {
		k.Reread()
		if err := p.Undo(k); !errors.Is(err, netsetup.ErrInUse) { // removeTraces removes the rules in use
			errs = append(errs, err)
		}
		for _, line := range p.Stays {
			l.Notef("stays: %s", line)
		}
	}
	return errors.Join(errs...)
}

// removeTraces removes everything with boxrun's name: rules, bridges, firewalld's knowledge of the bridges, and the
// files of a setup.
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

// removeFiles removes the state, and CNI's files about boxrun's networks. The lock held now is removed on its release.
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

// ResetCommands returns commands for bash with the effect of HostReset: first for instances and traces without a
// record, then "boxrun down", then for the setup.
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
	if files.Exists(l.Dir) || len(lines) > 0 { // a stopping box gives back its lease there
		lines = append(lines, "rm -rf "+files.Quote(l.Dir))
	}
	return lines, nil
}

// stopCommands returns commands to stop the boxes without a record, except the known boxes.
func stopCommands(l *launcher.Launcher, k *netsetup.Kernel, known []string) ([]string, error) {
	strays, _, err := l.Strays(k, l.UnreadBoxes())
	var lines []string
	if files.Exists(filepath.Join(units.Dir, units.WatchUnit)) {
		lines = append(lines, "systemctl stop "+strings.Join(units.Repairers(), " "))
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

// unitCommands returns commands to disable every box and to remove the units.
func unitCommands() ([]string, error) {
	paths, err := units.Files()
	if len(paths) == 0 || err != nil {
		return nil, err
	}
	var lines []string
	if enabled := units.EnabledAmong(paths); len(enabled) > 0 {
		lines = append(lines, "systemctl disable -q "+files.QuoteAll(enabled))
	}
	for _, file := range paths {
		switch {
		case strings.HasSuffix(filepath.Dir(file), ".wants"): // systemctl has removed the link
		case strings.HasSuffix(file, ".d"):
			lines = append(lines, files.RemoveEmptyCommand(file))
		default:
			lines = append(lines, "rm -f "+files.Quote(file))
		}
	}
	return append(lines, "systemctl daemon-reload"), nil
}

// anyway lets commands succeed, if yes is set, even when what they remove is gone: a box stopped by hand may have a
// service that clears up after it.
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
