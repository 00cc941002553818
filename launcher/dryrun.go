package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// A DryRun gives what a person would type into bash to have what several ups give, one after the other: on the host as it
// is when we are root, on a clean one otherwise, as only root can look. What is in place already is left out, and what the
// ups before would have done is taken as done. Nothing is changed.
type DryRun struct {
	l      *Launcher
	boxes  []*Box          // that would run by now
	built  []string        // names of boxes whose images would be new by now
	raised map[string]bool // undo logs of what they share: in place by now, or, where it is false, gone with a box
}

// DryRun begins a run of no ups.
func (l *Launcher) DryRun() *DryRun { return &DryRun{l: l, raised: map[string]bool{}} }

// Up gives the commands for one profile; none where an up before has seen to it.
func (d *DryRun) Up(p profiles.Profile, o UpOptions) ([]string, error) {
	if slices.ContainsFunc(d.boxes, func(b *Box) bool { return b.Name == p.Name }) {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return d.fresh(p, nil)
	}
	b, err := d.l.load(p.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.fresh(p, nil)
	case err != nil:
		return nil, err
	case d.l.staysUp(b, p, o) && !slices.Contains(d.built, p.Name):
		d.boxes = append(d.boxes, b)
		return d.l.repairCommands(b, p)
	}
	lines, err := d.clear(b)
	if err != nil {
		return nil, err
	}
	start, err := d.fresh(p, b)
	return append(lines, start...), err
}

// Build gives the commands that build the image of a profile before its up, as BuildCommands does; none where it is of its
// definition already, or has none. What is built need not be there now, and has the box start anew.
func (d *DryRun) Build(ctx context.Context, p profiles.Profile) ([]string, error) {
	if why, err := definitionNow(ctx, &p); err != nil || why == "" {
		return nil, err
	}
	d.built = append(d.built, p.Name)
	return d.l.BuildCommands(p)
}

// clear gives the commands that take away what there is of a box before it starts anew.
func (d *DryRun) clear(b *Box) ([]string, error) {
	others, err := d.others(b.Name)
	if err != nil {
		return nil, err
	}
	for _, file := range d.l.lastOf(b, others) {
		d.raised[file] = false
	}
	return d.l.downCommands(b, others)
}

// others gives the boxes beside the one named, those of the ups before among them. A clean host has none but these.
func (d *DryRun) others(name string) ([]*Box, error) {
	if os.Geteuid() != 0 {
		return without(d.boxes, name), nil
	}
	boxes, err := d.l.boxes()
	for _, b := range d.boxes {
		boxes = append(without(boxes, b.Name), b)
	}
	return without(boxes, name), err
}

// fresh gives the commands that start a box. old is the one of its name that is cleared away first, nil where there is none.
func (d *DryRun) fresh(p profiles.Profile, old *Box) ([]string, error) {
	others, err := d.others(p.Name)
	if err != nil {
		return nil, err
	}
	b, shared, err := d.foresee(p, old, others)
	if err != nil {
		return nil, err
	}
	c, err := d.l.told(b, p, others)
	if err != nil {
		return nil, err
	}
	prepare, err := d.l.prepareCommands(b, p, c)
	if err != nil {
		return nil, err
	}
	start, err := d.l.startCommands(b, p, c)
	if err != nil {
		return nil, err
	}
	rules, err := rulesCommands(b)
	if err != nil {
		return nil, err
	}
	b.foreseen = true
	d.boxes = append(d.boxes, b)
	names := d.l.nameCommands(b, others, append(slices.Clone(others), b))
	return slices.Concat(shared, prepare, start, rules, names, d.l.hookCommands(b, p)), nil
}

// startCommands gives the command that boots the box, as run runs it, and what is done to the box when it is there.
func (l *Launcher) startCommands(b *Box, p profiles.Profile, c confDir) ([]string, error) {
	s, err := l.startOf(b, p, c)
	if err != nil {
		return nil, err
	}
	boot := "env -i " + Quote(append(environment(l.Home), s.argv()...))
	if b.Unit != "" {
		if boot, err = l.unitCommand(b, s.argv()); err != nil {
			return nil, err
		}
	}
	return slices.Concat([]string{boot}, rootCommands(b), b.startLimitCommands()), nil
}

// unitCommand gives what a person would type to have the box's transient service.
func (l *Launcher) unitCommand(b *Box, argv []string) (string, error) {
	path, err := lookApptainer()
	if err != nil {
		return "", err
	}
	down, err := l.downCommand(b.Name)
	if err != nil {
		return "", err
	}
	argv[0] = path
	return systemdRun(transientUnit(b.Name), transientProperties(b, argv, down, environment(l.Home))), nil
}

// rulesCommands gives the commands for what is the box's own on the host.
func rulesCommands(b *Box) ([]string, error) {
	if !b.bridged() {
		return nil, nil
	}
	rules, err := boxRules(b)
	if err != nil {
		return nil, err
	}
	rules.Veth = "$VETH"
	return append(findVeth(b), netsetup.Ports(rules).Commands()...), nil
}

// nameCommands gives the commands that have others on the bridge of b, which comes or goes, know boxes, as tellNames does.
func (l *Launcher) nameCommands(b *Box, others, boxes []*Box) []string {
	var lines []string
	for _, other := range others {
		if b.bridged() && other.named() && other.Profile.Network.Bridge == b.Profile.Network.Bridge {
			lines = append(lines, confFile{Path: "hosts", Content: hostsOf(other, boxes)}.command(l.confDir(other.Name)))
		}
	}
	return lines
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
func (d *DryRun) foresee(p profiles.Profile, old *Box, others []*Box) (*Box, []string, error) {
	mtu, err := bridgeMTU(p.Network)
	if err != nil {
		return nil, nil, err
	}
	b, err := d.l.newBox(p, unitFor(p), mtu)
	if err != nil {
		return nil, nil, err
	}
	if os.Geteuid() == 0 {
		return d.foreseeHere(b, p, old, others)
	}
	if err := refusePublished(p, others); err != nil || !b.bridged() {
		return b, nil, err
	}
	b.Addr = cleanAddr(d.l.network(b), p.Network.IP, addrsOf(others))
	var lines []string
	for _, s := range d.sharedPlans(b) {
		if !d.raised[s.file] {
			lines = append(lines, s.plan.Commands()...)
		}
		d.raised[s.file] = true
	}
	return b, lines, nil
}

// cleanAddr gives the address of a box on a host of which nothing is known but the boxes that have those in taken.
func cleanAddr(n netsetup.Network, want netip.Addr, taken map[netip.Addr]string) netip.Addr {
	if want.IsValid() {
		return want
	}
	addr := n.Gateway().Next()
	for taken[addr] != "" {
		addr = addr.Next()
	}
	return addr
}

// sharedPlan is a plan that the box shares with others, and its undo log.
type sharedPlan struct {
	file string
	plan netsetup.Plan
}

func (d *DryRun) sharedPlans(b *Box) []sharedPlan {
	return []sharedPlan{
		{d.l.hostFile(), netsetup.Host()},
		{d.l.bridgeFile(b.Profile.Network.Bridge), netsetup.Bridge(d.l.network(b))},
	}
}

// foreseeHere looks at this host.
func (d *DryRun) foreseeHere(b *Box, p profiles.Profile, old *Box, others []*Box) (*Box, []string, error) {
	k, err := openKernel()
	if err != nil {
		return nil, nil, err
	}
	defer k.Close()
	refuse := d.l.refuse
	if slices.Contains(d.built, p.Name) {
		refuse = d.l.refuseBuilt
	}
	if err := errors.Join(refuse(k, p), refuseAmong(p, d.boxes)); err != nil || !b.bridged() {
		return b, nil, err
	}
	var leaving []netip.Addr
	if old != nil {
		leaving = append(leaving, old.Addr)
	}
	if b.Addr, err = freeAddr(d.l.network(b), p.Network.IP, addrsOf(others), leaving...); err != nil {
		return nil, nil, err
	}
	var lines []string
	for _, s := range d.sharedPlans(b) {
		missing, err := d.raise(k, s)
		if err != nil {
			return nil, nil, err
		}
		lines = append(lines, missing...)
	}
	return b, lines, nil
}

// raise gives the commands for what is not in place of a plan by now.
func (d *DryRun) raise(k *netsetup.Kernel, s sharedPlan) ([]string, error) {
	up, known := d.raised[s.file]
	d.raised[s.file] = true
	if up {
		return nil, nil
	}
	if err := s.plan.Record(k); err != nil {
		return nil, err
	}
	if known {
		return s.plan.Commands(), nil
	}
	return s.plan.RepairCommands(k)
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
	limits, err := l.limitCommands(b, p)
	return slices.Concat(lines, limits, l.hookCommands(b, p)), err
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
	contents := helloFiles()
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		lines = append(lines, confFile{Path: name, Content: contents[name]}.command(dir))
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
