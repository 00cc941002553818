package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"boxrun/netsetup"
)

// DownCommands returns the bash commands to type in place of Down for a box. The commands assume that the boxes named
// in gone have been taken down the same way before. Error: ErrNotFound if the box is not up.
func (l *Launcher) DownCommands(name string, gone ...string) ([]string, error) {
	b, err := l.find(name)
	if err != nil {
		return nil, err
	}
	others, err := l.others(name)
	if err != nil {
		return nil, err
	}
	for _, other := range gone {
		others = without(others, other)
	}
	return l.downCommands(b, others)
}

// downCommands returns the commands to take down the box, dead or alive, with the shared network no box in others
// needs. The order is the order of clear. While the commands run, the box's services must not run "boxrun down"
// themselves (see unhookCommands).
func (l *Launcher) downCommands(b *Box, others []*Box) ([]string, error) {
	lines, undo := b.unhookCommands()
	if b.alive() {
		lines = append(lines,
			fmt.Sprintf("kill -s RTMIN+3 %d", b.Init.PID),
			fmt.Sprintf("while [ -e /proc/%d ]; do sleep 0.1; done", b.Master.PID))
	}
	lines = append(lines, b.Ports.UndoCommands()...)
	stale, err := netsetup.StaleLeases(l.leaseDirs()...)
	if err != nil {
		return nil, err
	}
	if len(stale) > 0 {
		lines = append(lines, "rm -f "+Quote(stale))
	}
	files, err := l.removeCommands(b)
	if err != nil {
		return nil, err
	}
	shared, err := l.forgetCommands(b, others)
	return slices.Concat(lines, files, shared, undo), err
}

// removeCommands returns the commands to remove the files of the box, as removeOwn does. Apptainer's record and logs
// stay if they belong to another instance by now.
func (l *Launcher) removeCommands(b *Box) ([]string, error) {
	var lines []string
	if !b.foreign() {
		lines = append(lines, "rm -rf "+Quote([]string{filepath.Dir(b.Record), b.Log, b.outLog()}))
	}
	if b.MadeOverlay && b.overlay() != "" {
		lines = append(lines, "rm -rf "+quote(b.overlay()))
	}
	if made := slices.Clone(b.MadeDirs); len(made) > 0 {
		slices.Reverse(made)
		lines = append(lines, removeEmptyCommand(made...))
	}
	kept, err := l.keptFor(b)
	if kept != "" {
		lines = append(lines, "rm -rf "+quote(kept))
	}
	return append(lines, "rm -rf "+quote(l.boxDir(b.Name))), err
}

// forgetCommands returns the commands to end the state of the box and undo the shared network no box in others needs,
// as forget does.
func (l *Launcher) forgetCommands(b *Box, others []*Box) ([]string, error) {
	var lines []string
	for _, file := range l.lastOf(b, others) {
		plan := netsetup.Plan{}
		err := readJSON(file, &plan)
		if errors.Is(err, fs.ErrNotExist) { // the box's start failed before this plan
			continue
		}
		if err != nil {
			return nil, err
		}
		lines = append(append(lines, plan.UndoCommands()...), "rm "+quote(file))
	}
	lines = append(lines, "rm -f "+quote(l.boxFile(b.Name)))
	if len(others) > 0 {
		return append(lines, l.nameCommands(b, others, others)...), nil
	}
	return append(lines, "rm -f "+quote(l.conf()),
		removeEmptyCommand(l.path("boxes"), l.path("bridges"), l.path("cni"), l.path("leases"), l.Dir)), nil
}

// removeEmptyCommand returns the command to remove the given directories, in this order. Directories missing by then or
// not empty are no error.
func removeEmptyCommand(dirs ...string) string {
	return "rmdir --ignore-fail-on-non-empty " + Quote(dirs) + " 2>/dev/null || true"
}

// lastOf returns the undo logs needed by this box alone: the bridge's if none of others is on the same bridge, and also
// the host's if none is on any bridge.
func (l *Launcher) lastOf(b *Box, others []*Box) []string {
	if !b.bridged() {
		return nil
	}
	own, last := l.bridgeFile(b.Profile.Network.Bridge), true
	for _, other := range others {
		if other.bridged() {
			last = false
			if l.bridgeFile(other.Profile.Network.Bridge) == own {
				return nil
			}
		}
	}
	if !last {
		return []string{own}
	}
	return []string{own, l.hostFile()}
}
