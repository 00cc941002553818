package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// HostReset takes away all that carries boxrun's name, files and rules, whatever is left of its records. It refuses while
// boxes are up, and with force takes them down first. It gives what it found to be in its way and could not be told
// apart from others' work.
func (l *Launcher) HostReset(ctx context.Context, force bool) error {
	if err := l.downAll(ctx, force); err != nil {
		return err
	}
	unlock, err := l.lockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if names := l.up(); len(names) > 0 {
		return refusedFor(names) // one that came up in between
	}
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer k.Close()
	if err := l.stopStrays(ctx, k, force); err != nil {
		return err
	}
	return errors.Join(l.undoAll(k), l.removeTraces(k), l.removeFiles())
}

// downAll takes boxes down that run, where it may, and clears what is left of those that do not.
func (l *Launcher) downAll(ctx context.Context, force bool) error {
	if names := l.up(); len(names) > 0 && !force {
		return refusedFor(names)
	}
	files, err := filepath.Glob(l.path("boxes", "*.json"))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		name := nameOf(file)
		if _, err := l.load(name); err != nil {
			continue // its record goes with the others; whether it runs is looked at below
		}
		_, err := l.Down(ctx, name, 0)
		if !errors.Is(err, ErrKilled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func nameOf(file string) string {
	base := filepath.Base(file)
	return base[:len(base)-len(filepath.Ext(base))]
}

// up gives the names of the boxes that run or are about to. Records that cannot be read say nothing.
func (l *Launcher) up() []string {
	files, _ := filepath.Glob(l.path("boxes", "*.json")) // the pattern is well-formed
	var names []string
	for _, file := range files {
		b, err := l.load(nameOf(file))
		if err == nil && (b.alive() || b.Phase == Starting) {
			names = append(names, b.Name)
		}
	}
	return names
}

// stopStrays stops the boxes of which there is no record. Something else on a bridge that boxrun made is in the way.
func (l *Launcher) stopStrays(ctx context.Context, k *netsetup.Kernel, force bool) error {
	strays, others, err := l.strays(k)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return refused("stop what uses them first", "the bridges that boxrun made have devices of others on them: %s", quoteAll(others))
	}
	if len(strays) > 0 && !force {
		var names []string
		for _, b := range strays {
			names = append(names, b.Name)
		}
		return refused("use --force, which stops them", "boxes are up of which there is no record: %s", quoteAll(names))
	}
	for _, b := range strays {
		if _, err := stopBox(ctx, b.Init, b.Master, b.Cgroup, profiles.Default().Systemd.StopTimeout, l.Live); err != nil {
			return fmt.Errorf("stopping %s: %w", b.Name, err)
		}
		if err := l.remove(b); err != nil {
			return err
		}
	}
	return nil
}

// strays gives the instances on bridges that boxrun made: those whose record is lost, and devices that are no instance's.
func (l *Launcher) strays(k *netsetup.Kernel) (strays []*Box, others []string, err error) {
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
	if len(others) == 0 {
		return nil, nil, nil
	}
	records, err := filepath.Glob(recordPath(l.Home, "*", "*"))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range records {
		b, err := l.stray(path)
		if err != nil || b == nil {
			continue // no instance runs that the record is of
		}
		if i := slices.Index(others, b.Veth); i >= 0 {
			others = slices.Delete(others, i, i+1)
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
	link, err := netsetup.BoxLink(r.PID, boxDevice)
	if err != nil {
		return nil, err
	}
	hostname := filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(path))))
	b := &Box{Name: r.Name, Veth: link.Veth, Record: path, Log: logPath(l.Home, hostname, r.Name)}
	return b, b.adopt(r)
}

// undoAll undoes what there are records of: they know what somebody else's bridge was like before.
func (l *Launcher) undoAll(k *netsetup.Kernel) error {
	plans, _ := l.readPlans() // those that cannot be read are what the traces are for
	var errs []error
	for _, p := range slices.Backward(plans) {
		k.Reread()
		errs = append(errs, p.Undo(k))
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

// HostResetCommands gives what a person would type into bash to have what HostReset gives.
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
	var lines []string
	if names := l.up(); len(names) > 0 {
		lines = append(lines, "boxrun down "+quoteAll(names))
		plans, _ := l.readPlans()
		traces = traces.Without(ownersOf(plans)) // down takes those away
	}
	lines = append(lines, traces.Commands()...)
	files, err := netsetup.SetupFiles(etc)
	if err != nil {
		return nil, err
	}
	if len(files) > 0 {
		lines = append(lines, netsetup.SetupRemoval(etc).UndoCommands()...)
	}
	if exists(l.Dir) {
		lines = append(lines, "rm -rf "+quote(l.Dir))
	}
	return lines, nil
}
