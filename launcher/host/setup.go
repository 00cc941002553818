package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/network"
	"boxrun/netsetup"
	"boxrun/netsetup/bus"
	"boxrun/netsetup/offload"
	"boxrun/netsetup/site"
	"boxrun/profiles"
)

// etc is the directory with the host's configuration.
const etc = "/etc"

// SetupResult is the result of a host setup.
type SetupResult struct {
	Changed []string // changes made; empty: all was in place, and nothing was changed
	Missing []string // settings this host cannot keep over reboots; boxes work without them
}

// Setup sets up the host for the boxes of these profiles, now and over reboots. Setup can be repeated. If Setup
// fails, the host is as before. Errors of kind ErrRefused tell of a read-only /etc, of files of others in the
// way, or of unsaved rules in firewalld.
func Setup(ctx context.Context, l *launcher.Launcher, ps []profiles.Profile) (SetupResult, error) {
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return SetupResult{}, err
	}
	defer k.Close()
	done, err := applySetup(ctx, l, k, ps)
	if err != nil {
		return done, err
	}
	if len(done.Changed) > 0 {
		_, err = l.Repair(ctx) // restores rules of running boxes lost in a reload of firewalld
	}
	overruled, lookErr := site.Overruled("/", filepath.Join("etc", netsetup.SysctlFile))
	done.Missing = append(done.Missing, overruled...)
	if lookErr != nil {
		done.Missing = append(done.Missing, fmt.Sprintf("whether other files take its sysctls back is not known: %v", lookErr))
	}
	return done, err
}

// applySetup applies the plan of the setup, under the network's lock. If nothing is out of place, nothing is applied. A
// plan that fails halfway is undone.
func applySetup(ctx context.Context, l *launcher.Launcher, k *netsetup.Kernel, ps []profiles.Profile) (SetupResult, error) {
	unlock, err := l.LockNetwork(ctx)
	if err != nil {
		return SetupResult{}, err
	}
	defer unlock()
	s, err := lookSetup(l, k, ps)
	if err != nil {
		return SetupResult{}, err
	}
	plan, done := s.Plan(), SetupResult{Missing: s.Missing()}
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

// setupProblem adds advice to the commonest errors of a setup. ErrUnsaved: a reload of firewalld would lose unsaved rules
// of others.
func setupProblem(err error) error {
	hint := ""
	switch {
	case errors.Is(err, netsetup.ErrReadOnly):
		hint = "boxes work without it: \"boxrun up\" sets what they need each time; write the files that --dry-run " +
			"prints where this host's /etc is made"
	case errors.Is(err, netsetup.ErrForeign):
		hint = "move it out of the way, or leave the host as it is: boxes work without the setup"
	case errors.Is(err, bus.ErrUnsaved):
		hint = "keep them with \"firewall-cmd --runtime-to-permanent\", or drop them with \"firewall-cmd --reload\"; then again"
	default:
		return err
	}
	return fault.Refused(hint, "%v", err)
}

// lookSetup returns the setup of this host. The bridge of a box with an unreadable record is left out, with a warning.
func lookSetup(l *launcher.Launcher, k *netsetup.Kernel, ps []profiles.Profile) (netsetup.Setup, error) {
	boxes, err := l.All()
	if errors.Is(err, box.ErrUnreadable) {
		l.Notef("warning: the bridge of a box is left out: %v", err)
	} else if err != nil {
		return netsetup.Setup{}, err
	}
	return netsetup.LookSetup(k, etc, setupBridges(ps, boxes))
}

// setupBridges returns the default bridge and the bridges of the profiles and of the given boxes, each once, sorted by
// name. If several profiles differ about a bridge, the bridge leaves nothing to devices once a profile wants so.
func setupBridges(ps []profiles.Profile, boxes []*box.Box) []netsetup.Network {
	wanted := slices.Clone(ps)
	for _, b := range boxes {
		wanted = append(wanted, b.Profile)
	}
	var bridges []netsetup.Network
	for _, p := range append(wanted, profiles.Default()) {
		if n := p.Network; n.Mode == profiles.BridgeMode {
			bridges = append(bridges, netsetup.Network{Bridge: n.Bridge, Offload: offload.Mode(n.Offload)})
		}
	}
	slices.SortFunc(bridges, func(a, b netsetup.Network) int {
		return cmp.Or(strings.Compare(a.Bridge, b.Bridge), place(a)-place(b))
	})
	return slices.CompactFunc(bridges, func(a, b netsetup.Network) bool { return a.Bridge == b.Bridge })
}

// place puts a network whose bridge leaves nothing to devices before others.
func place(n netsetup.Network) int {
	if n.Offload.In() {
		return 0
	}
	return 1
}

// SetupCommands returns the bash commands to type in place of Setup. As root, the commands cover only what is
// out of place. Other users cannot look at the host and get all commands.
func SetupCommands(l *launcher.Launcher, ps []profiles.Profile) ([]string, error) {
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	s, err := lookSetup(l, k, ps)
	if err != nil {
		return nil, err
	}
	plan := s.Plan()
	if !l.Caller.Root {
		return plan.Commands(), nil
	}
	if err := plan.Record(k); err != nil {
		return nil, setupProblem(err)
	}
	return plan.RepairCommands(k)
}
