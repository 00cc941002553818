package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// HostReset takes away all that carries boxrun's name, files and rules, whatever is left of its records. It refuses while
// boxes are up, and with force takes them down first; it refuses always while something else is on a bridge of boxrun's.
func (l *Launcher) HostReset(ctx context.Context, force bool) error {
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer k.Close()
	unread := l.unreadBoxes() // while there still are records of that name
	if err := l.refuseReset(k, unread, force); err != nil {
		return err
	}
	if err := stopHealing(ctx); err != nil {
		return err
	}
	if err := errors.Join(l.removeUnreadable(ctx), l.downAll(ctx), l.stopStrays(ctx, k, unread)); err != nil {
		return err
	}
	unlock, err := l.lockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.refuseReset(k, unread, false); err != nil {
		return err // a box came up in between
	}
	return errors.Join(l.undoAll(k), l.removeTraces(k), l.removeFiles(), l.removeAllUnits(ctx))
}

// stopHealing stops the services that would put back what a reset takes away.
func stopHealing(ctx context.Context) error {
	files, err := UnitFiles()
	if len(files) == 0 || err != nil || !systemdHost() {
		return err
	}
	host, err := dialHost(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	return host.stopHealing(ctx)
}

// removeAllUnits disables all boxes, removes the units, and has systemd forget them. systemd itself takes the links away,
// and the directories it made for them.
func (l *Launcher) removeAllUnits(ctx context.Context) error {
	if files, err := UnitFiles(); len(files) == 0 || err != nil {
		return err
	}
	unlock, err := l.lockUnits(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	files, err := UnitFiles()
	return errors.Join(err, removeUnitFiles(ctx, files))
}

// removeUnitFiles is removeAllUnits for some of UnitFiles.
func removeUnitFiles(ctx context.Context, files []string) error {
	if !systemdHost() {
		return removeAll(files)
	}
	host, err := dialHost(ctx)
	if err != nil {
		return errors.Join(err, removeAll(files))
	}
	defer host.Close()
	err = host.disableUnits(ctx, enabledAmong(files))
	return errors.Join(wrap("disabling boxes", err), removeAll(files), host.reload(ctx),
		host.forgetFailures(ctx, "boxrun@*.service", "boxrun-*.service"))
}

// removeAll removes files and directories that are there, but directories with something of an administrator's in them.
func removeAll(paths []string) error {
	var errs []error
	for _, file := range paths {
		if err := removeIfThere(file); !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// enabledAmong gives the units that links among files start.
func enabledAmong(files []string) []string {
	var units []string
	for _, file := range files {
		unit := filepath.Base(file)
		if strings.HasSuffix(filepath.Dir(file), ".wants") && !slices.Contains(units, unit) {
			units = append(units, unit)
		}
	}
	return units
}

// refuseReset names what is in the way of a reset.
func (l *Launcher) refuseReset(k *netsetup.Kernel, unread []string, force bool) error {
	strays, others, err := l.strays(k, unread)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return refused("stop what uses them first", "on the bridges that boxrun made are devices of others: %s", strings.Join(others, ", "))
	}
	names := l.up()
	for _, b := range strays {
		names = append(names, b.Name)
	}
	if len(names) == 0 || force {
		return nil
	}
	slices.Sort(names)
	return refused("run \"boxrun down --all\" first, or use --force, which takes them down",
		"boxes are up: %s", strings.Join(slices.Compact(names), ", "))
}

// up gives the names of the boxes that run or are about to. Records that cannot be read say nothing.
func (l *Launcher) up() []string {
	var names []string
	for _, file := range l.records("boxes/*.json") {
		b, err := l.load(nameOf(file))
		if err == nil && (b.alive() || b.Phase == Starting) {
			names = append(names, b.Name)
		}
	}
	return names
}

// unreadBoxes gives the names of the boxes whose records cannot be read.
func (l *Launcher) unreadBoxes() []string {
	var names []string
	for _, file := range l.records("boxes/*.json") {
		if _, err := l.load(nameOf(file)); errors.Is(err, errUnreadable) {
			names = append(names, nameOf(file))
		}
	}
	return names
}

// records gives the files of the state that match a pattern.
func (s *Store) records(pattern string) []string {
	files, _ := filepath.Glob(s.path(pattern)) // the patterns are well-formed
	return files
}

// removeUnreadable removes the records that cannot be read, as no verb would get past them. What they were about is found
// by its name.
func (l *Launcher) removeUnreadable(ctx context.Context) error {
	unlock, err := l.lockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	_, unread := l.readPlans()
	var errs []error
	for _, h := range unread {
		errs = append(errs, removeIfThere(h.What))
	}
	return errors.Join(errs...)
}

// downAll takes down boxes that run, and clears what is left of those that do not.
func (l *Launcher) downAll(ctx context.Context) error {
	files := l.records("boxes/*.json")
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = nameOf(file)
	}
	var errs []error
	for _, name := range l.StopOrder(names) {
		_, err := l.Down(ctx, name, nil)
		if !errors.Is(err, ErrKilled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// stopStrays stops the boxes of which there is no record, and waits for their services: these run "boxrun down", which takes
// locks, and where a box had to be killed systemd would start it anew.
func (l *Launcher) stopStrays(ctx context.Context, k *netsetup.Kernel, unread []string) error {
	strays, _, err := l.strays(k, unread)
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range strays {
		errs = append(errs, wrap("stopping "+b.Name, l.stopStray(ctx, b)))
	}
	return errors.Join(errs...)
}

// clearUnread stops the box whose record cannot be read, and takes away what is found by its name.
func (l *Launcher) clearUnread(ctx context.Context, k *netsetup.Kernel, name string) error {
	strays, _, err := l.strays(k, []string{name})
	if err != nil {
		return err
	}
	for _, b := range strays {
		if b.Name != name {
			continue
		}
		if err := l.stopStray(ctx, b); err != nil {
			return fmt.Errorf("stopping %s: %w", name, err)
		}
	}
	if err := errors.Join(os.RemoveAll(l.boxDir(name)), removeIfThere(l.boxFile(name))); err != nil {
		return err
	}
	return l.forget(ctx, k, name)
}

func (l *Launcher) stopStray(ctx context.Context, b *Box) error {
	units := l.stopUnits(ctx, b)
	defer units.Close()
	if _, err := stopBox(ctx, b.Init, b.Master, b.Cgroup, profiles.Default().Systemd.StopTimeout, l.Live); err != nil {
		return err
	}
	return errors.Join(l.remove(b), units.wait(ctx))
}

// strays gives the instances that run and are boxrun's though it has no record of them, by Apptainer's records: those on
// bridges that boxrun made, those in a service of boxrun's, and those named as boxes of which unread has the names; and the
// devices on those bridges that are no instance's.
func (l *Launcher) strays(k *netsetup.Kernel, unread []string) (strays []*Box, others []string, err error) {
	traces, err := netsetup.FindTraces(k)
	if err != nil {
		return nil, nil, err
	}
	for _, bridge := range traces.Bridges {
		ports, err := netsetup.PortsOn(k, bridge)
		if err != nil {
			return nil, nil, err
		}
		others = append(others, ports...)
	}
	records, err := filepath.Glob(recordPath(l.Home, "*", "*"))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range records {
		b, err := l.stray(path)
		if err != nil {
			continue // no instance runs that the record is of
		}
		port := slices.Index(others, b.Veth)
		if port >= 0 {
			others = slices.Delete(others, port, port+1)
		}
		if port >= 0 || b.Unit != "" || slices.Contains(unread, b.Name) {
			strays = append(strays, b)
		}
	}
	return strays, others, nil
}

// stray gives the instance that runs according to Apptainer's record at path.
func (l *Launcher) stray(path string) (*Box, error) {
	r, err := readRecord(path)
	if err == nil {
		err = r.verify()
	}
	if err != nil {
		return nil, err
	}
	hostname := filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(path))))
	b := &Box{Name: r.Name, Record: path, Log: logPath(l.Home, hostname, r.Name),
		Profile: profiles.Profile{Name: r.Name, File: fileOfBox(r.Name)}}
	if link, err := netsetup.BoxLink(r.PID, boxDevice); err == nil { // one in the host's network has none
		b.Veth = link.Veth
	}
	if unit := unitOf(r.PPID); unitIsOf(unit, r.Name) {
		b.Unit = unit
	}
	return b, b.adopt(r)
}

// fileOfBox gives what the file of a box's profile must be called for its service to be the one that is enabled; where none
// is, what it mostly is called.
func fileOfBox(name string) string {
	if enabled := EnabledAs(name); enabled != "" {
		name, _, _ = strings.Cut(enabled, "@")
	}
	return name + ".toml"
}

// undoAll undoes what there are records of: they know what somebody else's bridge was like before.
func (l *Launcher) undoAll(k *netsetup.Kernel) error {
	plans, _ := l.readPlans() // those that cannot be read are what the traces are for
	var errs []error
	for _, p := range slices.Backward(plans) {
		k.Reread()
		if err := p.Undo(k); !errors.Is(err, netsetup.ErrInUse) { // those rules go with the traces
			errs = append(errs, err)
		}
		for _, line := range p.Stays {
			l.notef("stays: %s", line)
		}
	}
	return errors.Join(errs...)
}

// removeTraces removes what carries boxrun's name: rules, bridges, what firewalld knows of them, and the files of a setup.
func (l *Launcher) removeTraces(k *netsetup.Kernel) error {
	traces, err := netsetup.FindTraces(k)
	if err != nil {
		return err
	}
	errs := []error{traces.Remove(k)}
	for _, bridge := range append(traces.Names(), profiles.Default().Network.Bridge) {
		zone := netsetup.Plan{Zone: &netsetup.Zone{Device: bridge}}
		errs = append(errs, zone.Undo(k))
	}
	if files, err := netsetup.SetupFiles(etc); err == nil && len(files) > 0 {
		l.notef("stays until the next boot: the sysctls and modules of the host setup")
	}
	setup := netsetup.SetupRemoval(etc)
	err = errors.Join(append(errs, setup.Undo(k))...)
	if errors.Is(err, netsetup.ErrReadOnly) {
		return refused("make it writable, then again", "%v", err)
	}
	return reloadProblem(err)
}

// removeFiles removes the state, and what CNI keeps of boxrun's networks. The lock that is held goes when it is given back.
func (l *Launcher) removeFiles() error {
	results, err := filepath.Glob("/var/lib/cni/results/boxrun-*")
	if err != nil {
		return err
	}
	state, err := filepath.Glob(l.path("*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range append(results, state...) {
		if path != l.path("locks") {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// HostResetCommands gives what a person would type into bash to have what HostReset gives: first what boxrun has no
// record of, then what down takes away, then the setup.
func (l *Launcher) HostResetCommands() ([]string, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	traces, err := netsetup.FindTraces(k)
	if err != nil {
		return nil, err
	}
	names := l.up()
	lines, err := l.stopCommands(k, names)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		lines = append(lines, anyway(traces.Commands(), len(lines) > 0)...)
	} else {
		plans, _ := l.readPlans()
		lines = append(append(lines, traces.Without(ownersOf(plans)).Commands()...), "boxrun down "+Quote(names))
	}
	units, err := unitCommands()
	if err != nil {
		return nil, err
	}
	lines = append(lines, units...)
	setup, err := netsetup.SetupFiles(etc)
	if err != nil {
		return nil, err
	}
	if len(setup) > 0 {
		lines = append(lines, netsetup.SetupRemoval(etc).UndoCommands()...)
	}
	if exists(l.Dir) || len(lines) > 0 { // a box that stops gives back its lease there
		lines = append(lines, "rm -rf "+quote(l.Dir))
	}
	return lines, nil
}

// stopCommands gives the commands that stop the boxes of which there is no record: those but known.
func (l *Launcher) stopCommands(k *netsetup.Kernel, known []string) ([]string, error) {
	strays, _, err := l.strays(k, l.unreadBoxes())
	var lines []string
	if exists(filepath.Join(unitDir, watchUnit)) {
		lines = append(lines, "systemctl stop "+strings.Join(healingUnits(), " "))
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
	paths, err := UnitFiles()
	if len(paths) == 0 || err != nil {
		return nil, err
	}
	var lines []string
	if enabled := enabledAmong(paths); len(enabled) > 0 {
		lines = append(lines, "systemctl disable -q "+Quote(enabled))
	}
	for _, file := range paths {
		switch {
		case strings.HasSuffix(filepath.Dir(file), ".wants"): // systemctl has removed it
		case strings.HasSuffix(file, ".d"):
			lines = append(lines, removeEmptyCommand(file))
		default:
			lines = append(lines, "rm -f "+quote(file))
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
