package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"boxrun/netsetup"
)

// DownCommands gives what a person would type into bash to have what Down gives, once the boxes named in gone have been taken
// away so. ErrNotFound where the box is not up.
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

// downCommands gives the commands that take away the box, dead or alive, and what none of others needs, as clear does.
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

// removeCommands gives the commands that take away the files of the box, as removeOwn does.
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

// forgetCommands gives the commands that end the state of the box and take away what none of others needs, as forget does.
func (l *Launcher) forgetCommands(b *Box, others []*Box) ([]string, error) {
	var lines []string
	for _, file := range l.lastOf(b, others) {
		plan := netsetup.Plan{}
		err := readJSON(file, &plan)
		if errors.Is(err, fs.ErrNotExist) { // its start did not come to that
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

// removeEmptyCommand removes those of dirs, in this order, that are there and empty by then.
func removeEmptyCommand(dirs ...string) string {
	return "rmdir --ignore-fail-on-non-empty " + Quote(dirs) + " 2>/dev/null || true"
}

// lastOf gives the undo logs of what only this box still needs, and not one of others.
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
