package launcher

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// UpCommands gives what a person would type into bash to have what Up gives: on the host as it is when we are root, on
// a clean one otherwise, as only root can look. What is in place already is left out. Nothing is changed.
func (l *Launcher) UpCommands(p profiles.Profile) ([]string, error) {
	if b, err := l.load(p.Name); err == nil && os.Geteuid() == 0 && b.alive() {
		return l.repairCommands(b, p)
	}
	b, shared, err := l.foresee(p)
	if err != nil {
		return nil, err
	}
	c, err := l.told(b, p)
	if err != nil {
		return nil, err
	}
	prepare, err := l.prepareCommands(b, p, c)
	if err != nil {
		return nil, err
	}
	s, err := l.startOf(b, p, c)
	if err != nil {
		return nil, err
	}
	lines := slices.Concat(shared, prepare)
	lines = append(lines, "env -i "+Quote(append(environment(l.Home), s.argv()...)))
	lines = append(lines, rootCommands(b)...)
	lines = append(lines, b.startLimitCommands()...)
	if !b.bridged() {
		return append(lines, l.hookCommands(b, p)...), nil
	}
	rules, err := boxRules(b)
	if err != nil {
		return nil, err
	}
	rules.Veth = "$VETH"
	lines = append(lines, findVeth(b)...)
	lines = append(lines, netsetup.Ports(rules).Commands()...)
	return append(lines, l.hookCommands(b, p)...), nil
}

// prepareCommands gives the commands that write what prepare writes.
func (l *Launcher) prepareCommands(b *Box, p profiles.Profile, c confDir) ([]string, error) {
	site, err := l.site()
	if err != nil {
		return nil, err
	}
	lines := confCommands(site, l.conf(), l.path("cni"), systemdHost())
	dir := l.confDir(b.Name)
	lines = append(lines, "mkdir -p "+quote(filepath.Join(dir, "masks")))
	for _, f := range c.files() {
		lines = append(lines, f.command(dir))
	}
	lines = append(lines, l.secretCommands(p)...)
	if isHello(p.Image) {
		lines = append(lines, helloCommands(l.helloRoot(b.Name))...)
	}
	if p.Storage.Root == "overlay" {
		lines = append(lines, "mkdir -p "+quote(p.Storage.Overlay))
	}
	if own := ownSources(p); len(own) > 0 {
		lines = append(lines, "mkdir -p "+Quote(own))
	}
	return lines, nil
}

// confCommands gives the commands that write Apptainer's configuration, as apptainerConf makes it.
func confCommands(site, conf, cniDir string, systemdHost bool) []string {
	set := []string{"cni configuration path = " + cniDir}
	if !systemdHost {
		set = append(set, "systemd cgroups = no")
	}
	edit := "sed"
	for _, directive := range set {
		name, _, _ := strings.Cut(directive, " =")
		edit += " -e " + quote("$a"+directive) + " -e " + quote("/^"+name+" *=/d")
	}
	return []string{
		"mkdir -p " + quote(filepath.Dir(conf)),
		edit + " " + quote(site) + " > " + quote(conf),
	}
}

// command gives what a person would type to write the file below dir.
func (f confFile) command(dir string) string {
	path := quote(filepath.Join(dir, f.Path))
	if f.Link != "" {
		return fmt.Sprintf("ln -sfn %s %s", f.Link, path)
	}
	content := f.Content
	if content != "" && !strings.HasSuffix(content, "\n") {
		content += "\n"
	}
	end := "END"
	for strings.Contains("\n"+content, "\n"+end+"\n") {
		end += "_"
	}
	write := fmt.Sprintf("cat > %s <<'%s'\n%s%s", path, end, content, end)
	if f.Mode == 0o600 {
		return fmt.Sprintf("install -m 600 /dev/null %s\n%s", path, write)
	}
	return write
}

// findVeth finds the box's init in Apptainer's record of it, and with it the host's side of the box's veth; it lets users
// of the box ping.
func findVeth(b *Box) []string {
	return []string{
		fmt.Sprintf("PID=$(jq .pid %s)", quote(b.Record)),
		`VETH=$(basename $(dirname $(grep -lx "$(cat /proc/$PID/root/sys/class/net/` + boxDevice + `/iflink)" /sys/class/net/*/ifindex)))`,
		fmt.Sprintf("nsenter -t $PID -n sysctl -qw net.ipv4.ping_group_range='%s'", pingGroups),
	}
}

// foresee gives the box as it would be reserved, and the commands for what it shares with others.
func (l *Launcher) foresee(p profiles.Profile) (*Box, []string, error) {
	mtu, err := bridgeMTU(p.Network)
	if err != nil {
		return nil, nil, err
	}
	b, err := l.newBox(p, mtu)
	if err != nil {
		return nil, nil, err
	}
	var plans []netsetup.Plan
	if b.bridged() {
		plans = []netsetup.Plan{netsetup.Host(), netsetup.Bridge(l.network(b))}
	}
	if os.Geteuid() != 0 && !b.bridged() {
		return b, nil, nil
	}
	if os.Geteuid() != 0 {
		b.Addr = b.Profile.Network.IP
		if !b.Addr.IsValid() {
			b.Addr = l.network(b).Gateway().Next()
		}
		return b, commandsOf(plans), nil
	}
	return l.foreseeHere(b, p, plans)
}

// foreseeHere looks at this host.
func (l *Launcher) foreseeHere(b *Box, p profiles.Profile, plans []netsetup.Plan) (*Box, []string, error) {
	k, err := openKernel()
	if err != nil {
		return nil, nil, err
	}
	defer k.Close()
	if err := l.refuse(k, p); err != nil || !b.bridged() {
		return b, nil, err
	}
	others, err := l.others(b.Name)
	if err != nil {
		return nil, nil, err
	}
	if b.Addr, err = freeAddr(l.network(b), p.Network.IP, addrsOf(others)); err != nil {
		return nil, nil, err
	}
	var lines []string
	for _, plan := range plans {
		if err := plan.Record(k); err != nil {
			return nil, nil, err
		}
		missing, err := plan.RepairCommands(k)
		if err != nil {
			return nil, nil, err
		}
		lines = append(lines, missing...)
	}
	return b, lines, nil
}

// repairCommands gives the commands that mend what is out of place for a box that runs. What boxrun does when it finds
// the box at another address than its rules is not one of them: the address is known only then.
func (l *Launcher) repairCommands(b *Box, p profiles.Profile) ([]string, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	plans, err := l.plansOf(b)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, plan := range plans {
		missing, err := plan.RepairCommands(k)
		if err != nil {
			return nil, err
		}
		lines = append(lines, missing...)
	}
	limits, err := b.limitCommands(p)
	return slices.Concat(lines, limits, l.hookCommands(b, p)), err
}

func commandsOf(plans []netsetup.Plan) []string {
	var lines []string
	for _, p := range plans {
		lines = append(lines, p.Commands()...)
	}
	return lines
}

// DownCommands gives what a person would type into bash to have what Down gives. ErrNotFound where the box is not up.
func (l *Launcher) DownCommands(name string) ([]string, error) {
	b, err := l.find(name)
	if err != nil {
		return nil, err
	}
	lines, undo := b.unhookCommands()
	if b.alive() {
		lines = append(lines,
			fmt.Sprintf("kill -s RTMIN+3 %d", b.Init.PID),
			fmt.Sprintf("while [ -e /proc/%d ]; do sleep 0.1; done", b.Master.PID))
	}
	lines = append(lines, b.Ports.UndoCommands()...)
	shared, err := l.lastOf(b)
	if err != nil {
		return nil, err
	}
	for _, file := range shared {
		plan := netsetup.Plan{}
		if err := readJSON(file, &plan); err != nil {
			return nil, err
		}
		lines = append(append(lines, plan.UndoCommands()...), "rm "+quote(file))
	}
	lines = append(lines, fmt.Sprintf("rm -rf %s %s", quote(l.boxDir(name)), quote(l.boxFile(name))))
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

// lastOf gives the undo logs of what only this box still needs.
func (l *Launcher) lastOf(b *Box) ([]string, error) {
	if !b.bridged() {
		return nil, nil
	}
	others, err := l.others(b.Name)
	if err != nil {
		return nil, err
	}
	for _, other := range others {
		if other.bridged() && other.Profile.Network.Bridge == b.Profile.Network.Bridge {
			return nil, nil
		}
	}
	files := []string{l.bridgeFile(b.Profile.Network.Bridge)}
	if bridges, err := filepath.Glob(l.path("bridges", "*.json")); err == nil && len(bridges) == 1 {
		files = append(files, l.hostFile())
	}
	return files, nil
}

// quote makes one word of s for bash.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, unsafeInBash) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func unsafeInBash(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-", r)
}

// Quote gives words as a person would type them into bash.
func Quote(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return strings.Join(quoted, " ")
}

// helloCommands gives the commands that make what makeHello makes.
func helloCommands(dir string) []string {
	lines := []string{"mkdir -p " + Quote(below(dir, helloDirs()))}
	for _, path := range libraryDirs() {
		if target, err := os.Readlink(path); err == nil {
			lines = append(lines, fmt.Sprintf("ln -sfn %s %s", quote(target), quote(dir+path)))
		} else if exists(path) {
			lines = append(lines, "mkdir -p "+quote(dir+path))
		}
	}
	files := helloFiles()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		lines = append(lines, confFile{Path: name, Content: files[name]}.command(dir))
	}
	return lines
}

func below(dir string, names []string) []string {
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join(dir, name)
	}
	return paths
}
