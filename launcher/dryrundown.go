package launcher

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/launcher/lan"
	"boxrun/launcher/list"
	"boxrun/launcher/network"
	"boxrun/launcher/units"
	"boxrun/netsetup/leases"
)

// DownCommands returns the bash commands to type in place of Down for a box. The commands assume that the boxes named
// in gone have been taken down the same way before. Error: ErrNotFound if the box is not up.
func (l *Launcher) DownCommands(ctx context.Context, name string, gone ...string) ([]string, error) {
	b, err := l.Find(name)
	others, othersErr := l.Others(name)
	if err := cmp.Or(err, othersErr); err != nil {
		return nil, err
	}
	for _, other := range gone {
		others = box.Without(others, other)
	}
	return l.downCommands(ctx, b, others)
}

// downCommands returns the commands to take down the box, dead or alive, with the shared network no box in others
// needs. The order is the order of clear. While the commands run, the box's services must not run "boxrun down"
// themselves (see Disarmed).
func (l *Launcher) downCommands(ctx context.Context, b *box.Box, others []*box.Box) ([]string, error) {
	lines, undo := units.Disarmed(b)
	lines = append(lines, units.StopLooksCommand(b)...)
	if b.Alive() {
		lines = append(lines, StopCommands(b)...)
	}
	lines = append(lines, b.Ports.UndoCommands()...)
	stale, staleErr := leases.Stale(network.LeaseDirs(l.Store)...)
	if len(stale) > 0 {
		lines = append(lines, "rm -f "+files.QuoteAll(stale))
	}
	left, leftErr := l.leftovers(ctx, b)
	shared, sharedErr := l.typedForget(b, others)
	way := lan.TypedUndo(b, others)
	return slices.Concat(lines, list.Map(left, files.Removal.Command), way, shared, undo), cmp.Or(staleErr, leftErr, sharedErr)
}

// typedForget returns the commands for what network.Forget does: they undo the shared network no box in others needs, and
// end the state of the box.
func (l *Launcher) typedForget(b *box.Box, others []*box.Box) ([]string, error) {
	var lines []string
	for _, file := range l.lastOf(b, others) {
		plan, err := network.ReadPlan(file)
		if errors.Is(err, fs.ErrNotExist) { // the box's start failed before this plan
			continue
		}
		if err != nil {
			return nil, err
		}
		lines = append(append(lines, plan.UndoCommands()...), "rm "+files.Quote(file))
	}
	state := network.StateOf(l.Store, b.Name, len(others) == 0)
	names := namesAround(l.Store, b, others, others) // none around the last box
	return slices.Concat(lines, list.Map(state, files.Removal.Command), names.Commands()), nil
}

// lastOf returns the undo logs of the network that this box needs, and none of others.
func (l *Launcher) lastOf(b *box.Box, others []*box.Box) []string {
	if !b.Bridged() {
		return nil
	}
	own := []string{network.BridgeFile(l.Store, b.Profile.Network.Bridge), network.Host6File(l.Store), network.HostFile(l.Store)}
	stranger := func(file string) bool { return !slices.Contains(own, file) }
	return slices.DeleteFunc(network.Unneeded(l.Store, others), stranger)
}
