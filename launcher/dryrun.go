package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/build"
	"boxrun/launcher/conf"
	"boxrun/launcher/files"
	"boxrun/launcher/hello"
	"boxrun/launcher/limits"
	"boxrun/launcher/network"
	"boxrun/launcher/storage"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// A DryRun computes the bash commands to type in place of several ups, run in this order. As root, a DryRun starts from
// the host as it is now. Other users cannot look at the host and get the commands for a clean host. A DryRun leaves out
// whatever is in place already, counts the work of its earlier ups as done, and changes nothing.
type DryRun struct {
	l      *Launcher
	boxes  []*box.Box      // up by now
	built  []string        // names of boxes whose images would be new by now
	raised map[string]bool // by undo log of a shared plan: true: in place by now; false: gone with a box
}

// DryRun begins a run of no ups.
func (l *Launcher) DryRun() *DryRun { return &DryRun{l: l, raised: map[string]bool{}} }

// Up returns the commands for one profile: repairs if the box stays up, otherwise the commands to clear away the old
// box and start a new box. Up returns nil if an earlier Up of this run has handled the profile. Errors are the refusals
// of a real up, and failures to look at the host.
func (d *DryRun) Up(p profiles.Profile, o UpOptions) ([]string, error) {
	if slices.ContainsFunc(d.boxes, func(b *box.Box) bool { return b.Name == p.Name }) {
		return nil, nil
	}
	if !d.l.Caller.Root {
		return d.fresh(p, nil)
	}
	b, err := d.l.Load(p.Name)
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

// Build returns the commands that build the image of a profile before its up, as BuildCommands does. Build returns nil
// if the image is up to date with its definition, or the profile has no definition. The new image need not exist yet.
// An Up after Build starts the box anew.
func (d *DryRun) Build(ctx context.Context, p profiles.Profile) ([]string, error) {
	if why, err := build.Outdated(ctx, &p); err != nil || why == "" {
		return nil, err
	}
	d.built = append(d.built, p.Name)
	return build.Commands(d.l.Store, p)
}

// clear returns the commands to remove the remains of a box before the box starts anew. The shared plans removed with
// the box count as gone from then on.
func (d *DryRun) clear(b *box.Box) ([]string, error) {
	others, err := d.others(b.Name)
	if err != nil {
		return nil, err
	}
	for _, file := range d.l.lastOf(b, others) {
		d.raised[file] = false
	}
	return d.l.downCommands(b, others)
}

// others returns the boxes beside the named box, the boxes of earlier ups among them. A clean host has only the boxes
// of earlier ups.
func (d *DryRun) others(name string) ([]*box.Box, error) {
	if !d.l.Caller.Root {
		return box.Without(d.boxes, name), nil
	}
	boxes, err := d.l.All()
	for _, b := range d.boxes {
		boxes = append(box.Without(boxes, b.Name), b)
	}
	return box.Without(boxes, name), err
}

// fresh returns the commands that start a box. old is the box of the same name to be cleared away first; nil: none.
func (d *DryRun) fresh(p profiles.Profile, old *box.Box) ([]string, error) {
	others, err := d.others(p.Name)
	if err != nil {
		return nil, err
	}
	b, shared, err := d.foresee(p, old, others)
	if err != nil {
		return nil, err
	}
	c, err := conf.Told(d.l.Store, b, p, others)
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
	b.Foreseen = true
	d.boxes = append(d.boxes, b)
	names := d.l.nameCommands(b, others, append(slices.Clone(others), b))
	return slices.Concat(shared, prepare, start, rules, names, d.l.hookCommands(b, p)), nil
}

// startCommands returns the command that boots the box, the same as run executes, and then the commands for the booted
// box.
func (l *Launcher) startCommands(b *box.Box, p profiles.Profile, c conf.Dir) ([]string, error) {
	s, err := l.startOf(b, p, c)
	if err != nil {
		return nil, err
	}
	boot := "env -i " + files.QuoteAll(append(apptainer.Environment(l.Home), s.Argv()...))
	if b.Unit != "" {
		if boot, err = l.unitCommand(b, s.Argv()); err != nil {
			return nil, err
		}
	}
	return slices.Concat([]string{boot}, rootCommands(b), limits.StartCommands(b)), nil
}

// unitCommand returns the systemd-run command line that creates the box's transient service.
func (l *Launcher) unitCommand(b *box.Box, argv []string) (string, error) {
	path, err := apptainer.Look()
	if err != nil {
		return "", err
	}
	argv[0] = path
	return units.StartCommand(l.Store, b, argv)
}

// rulesCommands returns the commands for the box's own rules on the host; nil for a box without a bridge. The commands
// that set the shell variable VETH come first (findVeth).
func rulesCommands(b *box.Box) ([]string, error) {
	if !b.Bridged() {
		return nil, nil
	}
	rules, err := network.BoxRules(b)
	if err != nil {
		return nil, err
	}
	rules.Veth = "$VETH"
	return append(findVeth(b), netsetup.Ports(rules).Commands()...), nil
}

// nameCommands returns the commands that rewrite the hosts files of others on the bridge of b when b comes or goes, as
// TellNames does. The new files name the given boxes.
func (l *Launcher) nameCommands(b *box.Box, others, boxes []*box.Box) []string {
	var lines []string
	for _, other := range others {
		if b.Bridged() && conf.Named(other) && other.Profile.Network.Bridge == b.Profile.Network.Bridge {
			lines = append(lines, files.File{Path: "hosts", Content: conf.HostsOf(other, boxes)}.Command(l.ConfDir(other.Name)))
		}
	}
	return lines
}

// prepareCommands returns the commands to write the files of prepare.
func (l *Launcher) prepareCommands(b *box.Box, p profiles.Profile, c conf.Dir) ([]string, error) {
	site, err := l.site()
	if err != nil {
		return nil, err
	}
	lines := confCommands(site, l.Conf(), l.Path("cni"), units.Booted())
	dir := l.ConfDir(b.Name)
	lines = append(lines, "mkdir -p "+files.Quote(filepath.Join(dir, "masks")))
	for _, f := range c.Files() {
		lines = append(lines, f.Command(dir))
	}
	lines = append(lines, conf.SecretCommands(l.Store, p)...)
	if box.IsHello(p.Image) {
		lines = append(lines, hello.Commands(l.HelloRoot(b.Name))...)
	}
	if p.Storage.Root == "overlay" {
		lines = append(lines, "mkdir -p "+files.Quote(p.Storage.Overlay))
	}
	if own := storage.OwnSources(p); len(own) > 0 {
		lines = append(lines, "mkdir -p "+files.QuoteAll(own))
	}
	return lines, nil
}

// confCommands returns the commands to write Apptainer's configuration, with the content of Configuration: sed removes
// each directive from the site's file and appends boxrun's value.
func confCommands(site, conf, cniDir string, systemdHost bool) []string {
	set := []string{"cni configuration path = " + cniDir}
	if !systemdHost {
		set = append(set, "systemd cgroups = no")
	}
	edit := "sed"
	for _, directive := range set {
		name, _, _ := strings.Cut(directive, " =")
		edit += " -e " + files.Quote("$a"+directive) + " -e " + files.Quote("/^"+name+" *=/d")
	}
	return []string{
		"mkdir -p " + files.Quote(filepath.Dir(conf)),
		edit + " " + files.Quote(site) + " > " + files.Quote(conf),
	}
}

// findVeth returns three commands. The first reads the PID of the box's init from Apptainer's record of the box, into
// PID. The second finds the host's end of the box's veth pair, as VETH. The third lets users of the box ping.
func findVeth(b *box.Box) []string {
	return []string{
		fmt.Sprintf("PID=$(jq .pid %s)", files.Quote(b.Record)),
		`VETH=$(basename $(dirname $(grep -lx "$(cat /proc/$PID/root/sys/class/net/` + network.BoxDevice + `/iflink)" /sys/class/net/*/ifindex)))`,
		fmt.Sprintf("nsenter -t $PID -n sysctl -qw net.ipv4.ping_group_range='%s'", network.PingGroups),
	}
}

// foresee returns the box as up would reserve it, and the commands for the network shared with other boxes.
func (d *DryRun) foresee(p profiles.Profile, old *box.Box, others []*box.Box) (*box.Box, []string, error) {
	mtu, err := network.BridgeMTU(p.Network)
	if err != nil {
		return nil, nil, err
	}
	b, err := d.l.New(p, units.For(d.l.Caller, p), mtu)
	if err != nil {
		return nil, nil, err
	}
	if d.l.Caller.Root {
		return d.foreseeHere(b, p, old, others)
	}
	if err := network.RefusePublished(p, others); err != nil || !b.Bridged() {
		return b, nil, err
	}
	b.Addr = cleanAddr(network.Of(d.l.Store, b), p.Network.IP, network.AddrsOf(others))
	var lines []string
	for _, s := range d.sharedPlans(b) {
		if !d.raised[s.file] {
			lines = append(lines, s.plan.Commands()...)
		}
		d.raised[s.file] = true
	}
	return b, lines, nil
}

// cleanAddr returns the address of a box on a clean host. want wins if valid; otherwise the box gets the first address
// after the gateway that is not in taken, the addresses of known boxes.
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

// sharedPlan is a plan shared by several boxes, with the path of its undo log.
type sharedPlan struct {
	file string
	plan netsetup.Plan
}

// sharedPlans returns the plans behind the box's network, in the order of applying: the host's, then the bridge's.
func (d *DryRun) sharedPlans(b *box.Box) []sharedPlan {
	return []sharedPlan{
		{network.HostFile(d.l.Store), netsetup.Host()},
		{network.BridgeFile(d.l.Store, b.Profile.Network.Bridge), netsetup.Bridge(network.Of(d.l.Store, b))},
	}
}

// foreseeHere is foresee for root, who can look at this host. The address of old is free again for the new box.
func (d *DryRun) foreseeHere(b *box.Box, p profiles.Profile, old *box.Box, others []*box.Box) (*box.Box, []string, error) {
	k, err := network.OpenKernel()
	if err != nil {
		return nil, nil, err
	}
	defer k.Close()
	refuse := d.l.Refuse
	if slices.Contains(d.built, p.Name) {
		refuse = d.l.refuseBuilt
	}
	if err := errors.Join(refuse(k, p), refuseAmong(p, d.boxes)); err != nil || !b.Bridged() {
		return b, nil, err
	}
	var leaving []netip.Addr
	if old != nil {
		leaving = append(leaving, old.Addr)
	}
	if b.Addr, err = network.FreeAddr(network.Of(d.l.Store, b), p.Network.IP, network.AddrsOf(others), leaving...); err != nil {
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

// raise returns the commands for the parts of a shared plan not in place by now: none if this run has put the plan in
// place before, all if this run has undone the plan, otherwise whatever the kernel lacks.
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

// repairCommands returns the commands to repair a running box: its rules, its limits, and post_up if due. A box found
// at another address than its rules is not covered: only a real up learns the address.
func (l *Launcher) repairCommands(b *box.Box, p profiles.Profile) ([]string, error) {
	k, err := network.OpenKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	plans, err := network.PlansOf(l.Store, b)
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
	limits, err := limits.Commands(l.Store, b, p)
	return slices.Concat(lines, limits, l.hookCommands(b, p)), err
}

// rootCommands returns the shell command with the effect of MakeRootBindable, for a box with mount(8).
func rootCommands(b *box.Box) []string {
	if box.IsHello(b.Profile.Image) {
		return nil
	}
	return []string{fmt.Sprintf("nsenter -t $(jq .pid %s) -m mount --make-private /", files.Quote(b.Record))}
}
