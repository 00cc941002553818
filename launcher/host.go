package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// etc is where a host is configured.
const etc = "/etc"

// Setup is what a host setup did.
type Setup struct {
	Changed []string // what was done; empty: all was in place, and nothing was changed
	Missing []string // what this host has no way to keep over reboots; boxes work without it
}

// HostSetup puts in place, now and over reboots, what the boxes of these profiles need of the host. It can be repeated.
// Where it fails the host is as before.
func (l *Launcher) HostSetup(ctx context.Context, ps []profiles.Profile) (Setup, error) {
	k, err := openKernel()
	if err != nil {
		return Setup{}, err
	}
	defer k.Close()
	done, err := l.setUp(ctx, k, ps)
	if err != nil {
		return done, err
	}
	if len(done.Changed) > 0 {
		_, err = l.Repair(ctx) // what a reload of firewalld has taken from boxes that are up
	}
	overruled, lookErr := netsetup.Overruled("/")
	done.Missing = append(done.Missing, overruled...)
	if lookErr != nil {
		done.Missing = append(done.Missing, fmt.Sprintf("whether other files take its sysctls back is not known: %v", lookErr))
	}
	return done, err
}

// setUp applies the plan of the setup.
func (l *Launcher) setUp(ctx context.Context, k *netsetup.Kernel, ps []profiles.Profile) (Setup, error) {
	unlock, err := l.lockNetwork(ctx)
	if err != nil {
		return Setup{}, err
	}
	defer unlock()
	s, plan, err := l.setup(k, ps)
	if err != nil {
		return Setup{}, err
	}
	done := Setup{Missing: s.Missing()}
	if err := plan.Record(k); err != nil {
		return done, setupProblem(err)
	}
	if done.Changed, err = plan.Deeds(k); err != nil || len(done.Changed) == 0 {
		return done, err
	}
	if err := plan.Apply(k); err != nil {
		return done, errors.Join(setupProblem(err), plan.Undo(k))
	}
	return done, nil
}

// setupProblem says what to do about the commonest causes.
func setupProblem(err error) error {
	switch {
	case errors.Is(err, netsetup.ErrReadOnly):
		return refused("boxes work without it: \"boxrun up\" sets what they need each time; write the files that --dry-run "+
			"prints where this host's /etc is made", "%v", err)
	case errors.Is(err, netsetup.ErrForeign):
		return refused("move it out of the way, or leave the host as it is: boxes work without the setup", "%v", err)
	}
	return reloadProblem(err)
}

// reloadProblem says what to do where firewalld cannot be reloaded without harm to others.
func reloadProblem(err error) error {
	if !errors.Is(err, netsetup.ErrUnsaved) {
		return err
	}
	return refused("keep them with \"firewall-cmd --runtime-to-permanent\", or drop them with \"firewall-cmd --reload\"; then again",
		"%v", err)
}

// setup plans the setup of this host.
func (l *Launcher) setup(k *netsetup.Kernel, ps []profiles.Profile) (netsetup.Setup, netsetup.Plan, error) {
	boxes, err := l.boxes()
	if errors.Is(err, errUnreadable) {
		l.notef("warning: the bridge of a box is left out: %v", err)
		err = nil
	}
	if err != nil {
		return netsetup.Setup{}, netsetup.Plan{}, err
	}
	s, err := netsetup.LookSetup(k, etc, setupBridges(ps, boxes))
	if err != nil {
		return s, netsetup.Plan{}, err
	}
	return s, s.Plan(), nil
}

// setupBridges gives the default bridge, those of the profiles and those of boxes that are up, each once and by name.
func setupBridges(ps []profiles.Profile, boxes []*Box) []netsetup.Network {
	wanted := []profiles.Network{}
	for _, p := range ps {
		wanted = append(wanted, p.Network)
	}
	for _, b := range boxes {
		wanted = append(wanted, b.Profile.Network)
	}
	wanted = append(wanted, profiles.Default().Network)
	var bridges []netsetup.Network
	for _, n := range wanted {
		known := slices.ContainsFunc(bridges, func(b netsetup.Network) bool { return b.Bridge == n.Bridge })
		if n.Mode == profiles.BridgeMode && !known {
			bridges = append(bridges, netsetup.Network{Bridge: n.Bridge, Offload: n.Offload == "off"})
		}
	}
	slices.SortFunc(bridges, func(a, b netsetup.Network) int { return strings.Compare(a.Bridge, b.Bridge) })
	return bridges
}

// HostSetupCommands gives what a person would type into bash to have what HostSetup gives: what is out of place when we
// are root, all of it otherwise, as only root can look.
func (l *Launcher) HostSetupCommands(ps []profiles.Profile) ([]string, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	_, plan, err := l.setup(k, ps)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return plan.Commands(), nil
	}
	if err := plan.Record(k); err != nil {
		return nil, setupProblem(err)
	}
	return plan.RepairCommands(k)
}

// HostShow gives all that boxrun holds on the host. It changes nothing. A record that cannot be read is shown as drifted.
func (l *Launcher) HostShow(ps []profiles.Profile) ([]netsetup.Holding, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	held, err := l.setupHeld(k, ps)
	if err != nil {
		return nil, err
	}
	plans, unread := l.readPlans()
	held = append(held, unread...)
	for _, plan := range plans {
		more, err := plan.Holdings(k)
		if err != nil {
			return held, err
		}
		held = append(held, more...)
	}
	left, err := leftBehind(k, plans)
	if err != nil {
		return held, err
	}
	units, err := UnitFiles()
	if err != nil {
		return held, err
	}
	for _, file := range units {
		left = append(left, netsetup.Holding{Owner: "units", What: file, Drift: []string{}})
	}
	return nonNil(append(append(held, left...), l.filesHeld(held)...)), nil
}

// setupHeld gives what a host setup has put in place: nothing where there was none.
func (l *Launcher) setupHeld(k *netsetup.Kernel, ps []profiles.Profile) ([]netsetup.Holding, error) {
	files, err := netsetup.SetupFiles(etc)
	if len(files) == 0 || err != nil {
		return nil, err
	}
	_, plan, err := l.setup(k, ps)
	if err != nil {
		return nil, err
	}
	return plan.Holdings(k)
}

// readPlans gives the plans of all records, and a holding for each that cannot be read.
func (l *Launcher) readPlans() (plans []netsetup.Plan, unread []netsetup.Holding) {
	for _, pattern := range []string{"host.json", "bridges/*.json", "boxes/*.json"} {
		for _, file := range l.records(pattern) {
			plan, err := readPlan(file)
			if err != nil {
				unread = append(unread, netsetup.Holding{Owner: "state", What: file, Drift: []string{err.Error()}})
				continue
			}
			plans = append(plans, plan)
		}
	}
	return plans, unread
}

// readPlan reads the plan in a record: of a box it is a part.
func readPlan(file string) (netsetup.Plan, error) {
	plan := netsetup.Plan{}
	if filepath.Base(filepath.Dir(file)) != "boxes" {
		return plan, readJSON(file, &plan)
	}
	b := Box{}
	err := readJSON(file, &b)
	plan = b.Ports
	if plan.Owner == "" {
		plan.Owner = "boxrun:" + b.Name
	}
	return plan, err
}

// leftBehind gives what carries boxrun's name and is in no plan.
func leftBehind(k *netsetup.Kernel, plans []netsetup.Plan) ([]netsetup.Holding, error) {
	traces, err := netsetup.FindTraces(k)
	if err != nil {
		return nil, err
	}
	traces = traces.Without(ownersOf(plans))
	var left []netsetup.Holding
	for _, t := range traces.Rules {
		what := fmt.Sprintf("the rules of boxrun:%s in %s", t.Owner, t.Tool)
		i := slices.IndexFunc(left, func(h netsetup.Holding) bool { return h.What == what })
		if i < 0 {
			left, i = append(left, abandoned(t.Owner, what)), len(left)
		}
		left[i].Rules = append(left[i].Rules, t.String())
	}
	for _, b := range traces.Bridges {
		left = append(left, abandoned(b, "bridge "+b))
	}
	return left, nil
}

func abandoned(owner, what string) netsetup.Holding {
	return netsetup.Holding{Owner: owner, What: what, Drift: []string{"in no record of boxrun's: \"boxrun host reset\" removes it"}}
}

// ownersOf gives the names of what plans are for.
func ownersOf(plans []netsetup.Plan) []string {
	var owners []string
	for _, p := range plans {
		owners = append(owners, strings.TrimPrefix(p.Owner, "boxrun:"))
	}
	return owners
}

// filesHeld gives the files below the state directory that are not among those held already.
func (l *Launcher) filesHeld(held []netsetup.Holding) []netsetup.Holding {
	var files []netsetup.Holding
	_ = filepath.WalkDir(l.Dir, func(path string, d fs.DirEntry, err error) error {
		known := slices.ContainsFunc(held, func(h netsetup.Holding) bool { return h.What == path })
		switch {
		case err != nil:
			return nil //nolint:nilerr // it has just gone: what is gone is not held
		case d.IsDir() && path == l.path("locks"), d.IsDir() && filepath.Dir(path) == l.path("boxes"):
			files = append(files, l.dirHeld(path)...)
			return filepath.SkipDir
		case !d.IsDir() && !known:
			files = append(files, netsetup.Holding{Owner: l.fileOwner(path), What: path, Drift: []string{}})
		}
		return nil
	})
	return files
}

// dirHeld gives a box's directory as one; locks are held for a moment only, and not worth a line.
func (l *Launcher) dirHeld(dir string) []netsetup.Holding {
	if dir == l.path("locks") {
		return nil
	}
	return []netsetup.Holding{{Owner: filepath.Base(dir), What: dir + "/", Drift: []string{}}}
}

// fileOwner gives the box or the bridge that a file is about, by its path.
func (l *Launcher) fileOwner(path string) string {
	rest, _ := filepath.Rel(l.Dir, path) // both are absolute
	parts := strings.Split(rest, string(filepath.Separator))
	if len(parts) == 1 {
		return "host"
	}
	return strings.TrimPrefix(strings.TrimSuffix(parts[1], filepath.Ext(parts[1])), "boxrun-")
}
