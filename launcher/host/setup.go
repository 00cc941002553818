package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/network"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// SetupResult is the result of a host setup.
type SetupResult struct {
	Changed []string // changes made; empty: all was in place, and nothing was changed
	Missing []string // settings this host cannot keep over reboots; boxes work without them
}

// Setup sets up the host for the boxes of these profiles, now and over reboots. HostSetup can be repeated. If
// HostSetup fails, the host is as before. Errors of kind ErrRefused tell of a read-only /etc, of files of others in the
// way, or of unsaved rules in firewalld.
func Setup(ctx context.Context, l *launcher.Launcher, ps []profiles.Profile) (SetupResult, error) {
	k, err := network.OpenKernel()
	if err != nil {
		return SetupResult{}, err
	}
	defer k.Close()
	done, err := setUp(ctx, l, k, ps)
	if err != nil {
		return done, err
	}
	if len(done.Changed) > 0 {
		_, err = l.Repair(ctx) // restores rules of running boxes lost in a reload of firewalld
	}
	overruled, lookErr := netsetup.Overruled("/")
	done.Missing = append(done.Missing, overruled...)
	if lookErr != nil {
		done.Missing = append(done.Missing, fmt.Sprintf("whether other files take its sysctls back is not known: %v", lookErr))
	}
	return done, err
}

// setUp applies the plan of the setup, under the network's lock. If nothing is out of place, nothing is applied. A plan
// that fails halfway is undone.
func setUp(ctx context.Context, l *launcher.Launcher, k *netsetup.Kernel, ps []profiles.Profile) (SetupResult, error) {
	unlock, err := l.LockNetwork(ctx)
	if err != nil {
		return SetupResult{}, err
	}
	defer unlock()
	s, plan, err := setup(l, k, ps)
	if err != nil {
		return SetupResult{}, err
	}
	done := SetupResult{Missing: s.Missing()}
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

// setupProblem adds advice to the commonest errors of a setup: ErrReadOnly, ErrForeign, and ErrUnsaved by
// reloadProblem.
func setupProblem(err error) error {
	switch {
	case errors.Is(err, netsetup.ErrReadOnly):
		return fault.Refused("boxes work without it: \"boxrun up\" sets what they need each time; write the files that --dry-run "+
			"prints where this host's /etc is made", "%v", err)
	case errors.Is(err, netsetup.ErrForeign):
		return fault.Refused("move it out of the way, or leave the host as it is: boxes work without the setup", "%v", err)
	}
	return reloadProblem(err)
}

// reloadProblem adds advice to ErrUnsaved: a reload of firewalld would lose unsaved rules of others.
func reloadProblem(err error) error {
	if !errors.Is(err, netsetup.ErrUnsaved) {
		return err
	}
	return fault.Refused("keep them with \"firewall-cmd --runtime-to-permanent\", or drop them with \"firewall-cmd --reload\"; then again",
		"%v", err)
}

// setup returns the setup of this host and its plan. The bridge of a box with an unreadable record is left out, with a
// warning.
func setup(l *launcher.Launcher, k *netsetup.Kernel, ps []profiles.Profile) (netsetup.Setup, netsetup.Plan, error) {
	boxes, err := l.All()
	if errors.Is(err, box.ErrUnreadable) {
		l.Notef("warning: the bridge of a box is left out: %v", err)
		err = nil
	}
	if err != nil {
		return netsetup.Setup{}, netsetup.Plan{}, err
	}
	s, err := netsetup.LookSetup(k, network.Etc, setupBridges(ps, boxes))
	if err != nil {
		return s, netsetup.Plan{}, err
	}
	return s, s.Plan(), nil
}

// setupBridges returns the default bridge and the bridges of the profiles and of the given boxes, each once, sorted by
// name. If several profiles differ about a bridge, the first decides: profiles go before boxes, and both before the
// default.
func setupBridges(ps []profiles.Profile, boxes []*box.Box) []netsetup.Network {
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

// SetupCommands returns the bash commands to type in place of HostSetup. As root, the commands cover only what is
// out of place. Other users cannot look at the host and get all commands.
func SetupCommands(l *launcher.Launcher, ps []profiles.Profile) ([]string, error) {
	k, err := network.OpenKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	_, plan, err := setup(l, k, ps)
	if err != nil {
		return nil, err
	}
	if !l.Caller.Root {
		return plan.Commands(), nil
	}
	if err := plan.Record(k); err != nil {
		return nil, setupProblem(err)
	}
	return plan.RepairCommands(k)
}

// Show returns everything boxrun holds on the host, and changes nothing: the setup, the plans in records, traces
// without a record, units, and files of the state. An unreadable record is shown as drifted.
func Show(l *launcher.Launcher, ps []profiles.Profile) ([]netsetup.Holding, error) {
	k, err := network.OpenKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	held, err := setupHeld(l, k, ps)
	if err != nil {
		return nil, err
	}
	plans, unread := readPlans(l)
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
	units, err := units.Files()
	if err != nil {
		return held, err
	}
	for _, file := range units {
		left = append(left, netsetup.Holding{Owner: "units", What: file, Drift: []string{}})
	}
	return launcher.NonNil(append(append(held, left...), filesHeld(l, held)...)), nil
}

// setupHeld returns what a host setup has put in place; nil if there was no setup.
func setupHeld(l *launcher.Launcher, k *netsetup.Kernel, ps []profiles.Profile) ([]netsetup.Holding, error) {
	files, err := netsetup.SetupFiles(network.Etc)
	if len(files) == 0 || err != nil {
		return nil, err
	}
	_, plan, err := setup(l, k, ps)
	if err != nil {
		return nil, err
	}
	return plan.Holdings(k)
}

// readPlans returns the plans of all records, and a holding for each unreadable record. The host, each bridge and each
// box have a record.
func readPlans(l *launcher.Launcher) (plans []netsetup.Plan, unread []netsetup.Holding) {
	for _, pattern := range []string{"host.json", "bridges/*.json", "boxes/*.json"} {
		for _, file := range l.Records(pattern) {
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

// readPlan reads the plan in a record. The record of a box holds more than the plan of its ports. If this plan has no
// owner yet, readPlan names the box.
func readPlan(file string) (netsetup.Plan, error) {
	plan := netsetup.Plan{}
	if filepath.Base(filepath.Dir(file)) != "boxes" {
		return plan, box.ReadJSON(file, &plan)
	}
	b := box.Box{}
	err := box.ReadJSON(file, &b)
	plan = b.Ports
	if plan.Owner == "" {
		plan.Owner = "boxrun:" + b.Name
	}
	return plan, err
}

// leftBehind returns what carries boxrun's name and belongs to no plan: rules, grouped by owner and tool, and bridges.
// "boxrun host reset" removes such things.
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

// abandoned returns a holding for something of boxrun's without a record.
func abandoned(owner, what string) netsetup.Holding {
	return netsetup.Holding{Owner: owner, What: what, Drift: []string{"in no record of boxrun's: \"boxrun host reset\" removes it"}}
}

// ownersOf returns the owners of plans, without the prefix "boxrun:".
func ownersOf(plans []netsetup.Plan) []string {
	var owners []string
	for _, p := range plans {
		owners = append(owners, strings.TrimPrefix(p.Owner, "boxrun:"))
	}
	return owners
}

// filesHeld returns the files below the state directory missing from held. A box's directory counts as a single file.
func filesHeld(l *launcher.Launcher, held []netsetup.Holding) []netsetup.Holding {
	var files []netsetup.Holding
	_ = filepath.WalkDir(l.Dir, func(path string, d fs.DirEntry, err error) error {
		known := slices.ContainsFunc(held, func(h netsetup.Holding) bool { return h.What == path })
		switch {
		case err != nil:
			return nil //nolint:nilerr // the file has just gone, so boxrun does not hold the file
		case d.IsDir() && path == l.Path("locks"), d.IsDir() && filepath.Dir(path) == l.Path("boxes"):
			files = append(files, dirHeld(l, path)...)
			return filepath.SkipDir
		case !d.IsDir() && !known:
			files = append(files, netsetup.Holding{Owner: fileOwner(l, path), What: path, Drift: []string{}})
		}
		return nil
	})
	return files
}

// dirHeld returns a box's directory as a single holding. The directory of locks gives nil: locks are held for a moment
// only, and not worth a line.
func dirHeld(l *launcher.Launcher, dir string) []netsetup.Holding {
	if dir == l.Path("locks") {
		return nil
	}
	return []netsetup.Holding{{Owner: filepath.Base(dir), What: dir + "/", Drift: []string{}}}
}

// fileOwner returns the box or bridge a file is about, taken from the path; "host" for a file at the top.
func fileOwner(l *launcher.Launcher, path string) string {
	rest, _ := filepath.Rel(l.Dir, path) // both are absolute
	parts := strings.Split(rest, string(filepath.Separator))
	if len(parts) == 1 {
		return "host"
	}
	return strings.TrimPrefix(strings.TrimSuffix(parts[1], filepath.Ext(parts[1])), "boxrun-")
}
