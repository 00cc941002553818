package host

import (
	"cmp"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/lan"
	"boxrun/launcher/network"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// Show returns everything boxrun holds on the host, and changes nothing: the setup, the plans in records, traces
// without a record, units, and files of the state. An unreadable record is shown as drifted.
func Show(l *launcher.Launcher, ps []profiles.Profile) ([]netsetup.Holding, error) {
	k, err := network.OpenKernel(l.Store)
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
	boxes, _ := l.All() // of unreadable records unread tells
	ways, abandonedWays, err := lan.Held(k, boxes)
	if err != nil {
		return held, err
	}
	held = append(held, ways...)
	left, err := leftBehind(k, plans)
	for _, device := range abandonedWays {
		left = append(left, abandoned(device, "macvlan device "+device))
	}
	units, unitErr := units.Files()
	if err := cmp.Or(err, unitErr); err != nil {
		return held, err
	}
	for _, file := range units {
		left = append(left, netsetup.Holding{Owner: "units", What: file, Drift: []string{}})
	}
	return launcher.NonNil(append(append(held, left...), filesHeld(l, held)...)), nil
}

// setupHeld returns what a host setup has put in place; nil if there was no setup.
func setupHeld(l *launcher.Launcher, k *netsetup.Kernel, ps []profiles.Profile) ([]netsetup.Holding, error) {
	files, err := netsetup.SetupFiles(etc)
	if len(files) == 0 || err != nil {
		return nil, err
	}
	s, err := lookSetup(l, k, ps)
	if err != nil {
		return nil, err
	}
	return s.Plan().Holdings(k)
}

// readPlans returns the plans of all records, and a holding for each unreadable record. The host, each bridge and each
// box have a record.
func readPlans(l *launcher.Launcher) (plans []netsetup.Plan, unread []netsetup.Holding) {
	for _, pattern := range []string{"host.json", "host6.json", "bridges/*.json", "boxes/*.json"} {
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
	if filepath.Base(filepath.Dir(file)) != "boxes" {
		return network.ReadPlan(file)
	}
	b := box.Box{}
	err := box.ReadJSON(file, &b)
	if b.Ports.Owner == "" {
		b.Ports.Owner = "boxrun:" + b.Name
	}
	return b.Ports, err
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
	for _, l := range traces.Lookups {
		left = append(left, abandoned(l.Owner, "routing rule "+l.Rule.String()))
	}
	for _, r := range traces.Routes {
		left = append(left, abandoned("", "route "+r.String()))
	}
	for _, b := range traces.Bridges {
		left = append(left, abandoned(b, "bridge "+b))
	}
	for _, u := range traces.Unmanaged {
		left = append(left, abandoned(u.Bridge, u.String()))
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
// Locks do not count: they are held for a moment only, and not worth a line.
func filesHeld(l *launcher.Launcher, held []netsetup.Holding) []netsetup.Holding {
	var files []netsetup.Holding
	_ = filepath.WalkDir(l.Dir, func(path string, d fs.DirEntry, err error) error {
		known := slices.ContainsFunc(held, func(h netsetup.Holding) bool { return h.What == path })
		switch {
		case err != nil:
			return nil //nolint:nilerr // the file has just gone, so boxrun does not hold the file
		case d.IsDir() && path == l.Path("locks"):
			return filepath.SkipDir
		case d.IsDir() && filepath.Dir(path) == l.Path("boxes"):
			files = append(files, netsetup.Holding{Owner: filepath.Base(path), What: path + "/", Drift: []string{}})
			return filepath.SkipDir
		case !d.IsDir() && !known:
			files = append(files, netsetup.Holding{Owner: fileOwner(l, path), What: path, Drift: []string{}})
		}
		return nil
	})
	return files
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
