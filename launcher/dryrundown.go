package launcher

import (
	"fmt"
	"path/filepath"

	"boxrun/netsetup"
)

// DownCommands gives what a person would type into bash to have what Down gives. ErrNotFound where the box is not up.
func (l *Launcher) DownCommands(name string) ([]string, error) {
	b, err := l.find(name)
	if err != nil {
		return nil, err
	}
	others, err := l.others(name)
	if err != nil {
		return nil, err
	}
	return l.downCommands(b, l.lastOf(b, others))
}

// downCommands gives the commands that take away the box, dead or alive, and the plans whose undo logs are shared.
func (l *Launcher) downCommands(b *Box, shared []string) ([]string, error) {
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
	for _, file := range shared {
		plan := netsetup.Plan{}
		if err := readJSON(file, &plan); err != nil {
			return nil, err
		}
		lines = append(append(lines, plan.UndoCommands()...), "rm "+quote(file))
	}
	if !b.foreign() {
		lines = append(lines, "rm -rf "+Quote([]string{filepath.Dir(b.Record), b.Log, b.outLog()}))
	}
	if b.MadeOverlay {
		lines = append(lines, "rm -rf "+quote(b.overlay()))
	}
	kept, err := l.keptFor(b)
	if err != nil {
		return nil, err
	}
	if kept != "" {
		lines = append(lines, "rm -rf "+quote(kept))
	}
	lines = append(lines, fmt.Sprintf("rm -rf %s %s", quote(l.boxDir(b.Name)), quote(l.boxFile(b.Name))))
	return append(lines, undo...), nil
}

// unhookCommands keep the services that watch the box from running "boxrun down" themselves when its init ends, and
// undo takes that back.
func (b *Box) unhookCommands() (lines, undo []string) {
	if !systemdHost() {
		return nil, nil
	}
	for _, unit := range b.unitsOf() {
		dir := "/run/systemd/system/" + unit + ".d"
		lines = append(lines, "mkdir -p "+quote(dir),
			fmt.Sprintf("printf '[Service]\\nExecStop=\\n' > %s", quote(dir+"/no-stop.conf")))
		undo = append(undo, "rm -r "+quote(dir))
	}
	if len(lines) > 0 {
		lines, undo = append(lines, "systemctl daemon-reload"), append(undo, "systemctl daemon-reload")
	}
	return lines, undo
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
