package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/build"
	"boxrun/launcher/conf"
	"boxrun/launcher/files"
	"boxrun/launcher/lan"
	"boxrun/launcher/limits"
	"boxrun/launcher/list"
	"boxrun/launcher/machine"
	"boxrun/launcher/network"
	"boxrun/launcher/storage"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/netsetup/six"
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
func (d *DryRun) Up(ctx context.Context, p profiles.Profile, o UpOptions) ([]string, error) {
	if slices.ContainsFunc(d.boxes, func(b *box.Box) bool { return b.Name == p.Name }) {
		return nil, nil
	}
	if !d.l.Caller.Root {
		return d.fresh(ctx, p, nil, o.Force)
	}
	b, err := d.l.Load(p.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.fresh(ctx, p, nil, o.Force)
	case err != nil:
		return nil, err
	case d.l.staysUp(ctx, b, p, o) && !slices.Contains(d.built, p.Name):
		if ctx.Err() != nil { // nothing is known of what changed
			return nil, context.Cause(ctx)
		}
		d.boxes = append(d.boxes, b)
		return d.l.repairCommands(b, p)
	}
	lines, err := d.clear(ctx, b)
	if err != nil {
		return nil, err
	}
	start, err := d.fresh(ctx, p, b, o.Force)
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
	return build.Typed(d.l.Store, p)
}

// clear returns the commands to remove the remains of a box before the box starts anew. The shared plans removed with
// the box count as gone from then on.
func (d *DryRun) clear(ctx context.Context, b *box.Box) ([]string, error) {
	others, err := d.others(b.Name)
	if err != nil {
		return nil, err
	}
	for _, file := range d.l.lastOf(b, others) {
		d.raised[file] = false
	}
	b.Anew = true
	return d.l.downCommands(ctx, b, others)
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
func (d *DryRun) fresh(ctx context.Context, p profiles.Profile, old *box.Box, force bool) ([]string, error) {
	others, err := d.others(p.Name)
	if err != nil {
		return nil, err
	}
	p = network.Follow(d.l.Store, p, others)
	var k *netsetup.Kernel // nil: the commands are for a clean host
	if d.l.Caller.Root {
		if k, err = network.OpenKernel(d.l.Store); err != nil {
			return nil, err
		}
		defer k.Close()
	}
	f, err := d.examine(ctx, k, p, others, force)
	if err != nil {
		return nil, err
	}
	b, err := d.l.New(p, f.unit, f.mtu)
	if err != nil {
		return nil, err
	}
	b.OtherLeases = f.leases
	lan.Foresee(b, f.parent)
	shared, err := d.reserve(k, b, old, others)
	if err != nil {
		return nil, err
	}
	w := plan(d.l.Store, p, b, others, f)
	d.l.warnOfProfile(b, f)
	start, err := d.l.startCommands(w)
	if err != nil {
		return nil, err
	}
	b.Foreseen = true
	d.boxes = append(d.boxes, b)
	names := namesAround(d.l.Store, b, others, append(slices.Clone(others), b)).Commands()
	registration, err := machine.Command(b)
	if err != nil {
		return nil, err
	}
	looks, err := units.LookCommand(d.l.Store, b)
	return slices.Concat(shared, start, names, registration, d.l.typedHooks(b, dueHooks(b, p)), looks), err
}

// examine returns the facts for a start, and the refusals of a real up. On a clean host only the boxes of earlier ups
// may be in the way.
func (d *DryRun) examine(ctx context.Context, k *netsetup.Kernel, p profiles.Profile, others []*box.Box, force bool) (facts, error) {
	if k == nil {
		f, err := d.l.look(ctx, p)
		return f, errors.Join(err, network.RefusePublished(p, others))
	}
	if err := storage.RefuseSilent(ctx, p); err != nil {
		return facts{}, err
	}
	examine := d.l.examine
	if slices.Contains(d.built, p.Name) {
		examine = d.l.examineBuilt
	}
	f, err := examine(ctx, k, p, force)
	return f, errors.Join(err, refuseAmong(p, d.boxes))
}

// reserve gives the box the address that up would reserve, and returns the commands for the network shared with other
// boxes. The address of old is free again for the new box.
func (d *DryRun) reserve(k *netsetup.Kernel, b, old *box.Box, others []*box.Box) (lines []string, err error) {
	if !b.Bridged() {
		return nil, nil
	}
	n, want, taken := network.Of(d.l.Store, b), b.Profile.Network.IP, network.AddrsOf(others)
	var leaving []netip.Addr
	if old != nil {
		leaving = append(leaving, old.Addr)
	}
	if k == nil {
		b.Addr = cleanAddr(n, want, taken)
	} else if b.Addr, err = network.FreeAddr(n, want, taken, leaving...); err != nil {
		return nil, err
	}
	raise := func(s network.Shared) ([]string, error) { return d.raise(k, s) }
	return list.Concat(network.SharedPlans(d.l.Store, n), raise)
}

// startCommands returns the commands in place of prepare and boot: files and directories, Apptainer's command line, and
// what follows in the booted box.
func (l *Launcher) startCommands(w wanted) ([]string, error) {
	var lines []string
	for _, set := range w.files {
		lines = append(lines, set.Commands()...)
	}
	lines = append(append(lines, list.Map(w.dirs, storage.Dirs.Command)...), w.journal.Commands()...)
	claim, err := w.claim.Commands()
	if err != nil {
		return nil, err
	}
	lines = slices.Concat(lines, claim, storage.RecheckOf(w.box.Profile).Commands(), storage.SizingOf(w.box).Commands())
	boot := "env -i " + files.QuoteAll(append(slices.Clone(w.env), w.argv...))
	if w.box.Unit != "" {
		if boot, err = units.StartCommand(l.Store, w.box, w.service(), w.env); err != nil {
			return nil, err
		}
	}
	lines = append(lines, boot)
	// The effect of MakeRootBindable, in a box with mount(8). The first process of a confined box does it by itself.
	if !box.IsHello(w.box.Profile.Image) && !w.box.Profile.Security.Confined() {
		lines = append(lines, fmt.Sprintf("nsenter -t $(jq .pid %s) -m mount --make-private /", files.Quote(w.box.Record)))
	}
	if w.box.Bridged() && !w.box.Profile.Security.Confined() {
		lines = append(lines, six.TypedBelieveNobody(fmt.Sprintf("$(jq .pid %s)", files.Quote(w.box.Record))))
	}
	rules, err := typedRules(w.box)
	return slices.Concat(lines, limits.TypedAtStart(w.box), rules), err
}

// typedRules returns the commands for the box's own rules on the host, or for the host's way to a box on the LAN; nil for
// other boxes. The first reads the PID of the box's init from Apptainer's record of the box, and the next lets users of the
// box ping. On a bridge, one between the two finds the host's end of the box's veth pair.
func typedRules(b *box.Box) ([]string, error) {
	pid := fmt.Sprintf("PID=$(jq .pid %s)", files.Quote(b.Record))
	ping := fmt.Sprintf("nsenter -t $PID -n sysctl -qw net.ipv4.ping_group_range='%s'", network.PingGroups)
	way, err := lan.Typed(b)
	if err != nil {
		return nil, err
	}
	if !b.Bridged() {
		if b.OnLAN() {
			way = append([]string{pid, ping}, way...)
		}
		return way, nil
	}
	rules, err := network.BoxRules(b)
	if err == nil {
		rules.Need, err = network.NeedOf(b.Profile.Network)
	}
	if err != nil {
		return nil, err
	}
	rules.Veth = "$VETH"
	var inside []string
	if six := network.Inside6(b); six != nil {
		inside = six.Commands()
	}
	return slices.Concat([]string{
		pid,
		`VETH=$(basename $(dirname $(grep -lx "$(cat /proc/$PID/root/sys/class/net/` + network.BoxDevice +
			`/iflink)" /sys/class/net/*/ifindex)))`,
		ping,
	}, inside, netsetup.Ports(rules).Commands(), way), nil
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

// raise returns the commands for the parts of a shared plan not in place by now: none if this run has put the plan in
// place before, all on a clean host or if this run has undone the plan, otherwise whatever the kernel lacks.
func (d *DryRun) raise(k *netsetup.Kernel, s network.Shared) ([]string, error) {
	up, known := d.raised[s.File]
	d.raised[s.File] = true
	switch {
	case up:
		return nil, nil
	case k == nil:
		return s.Plan.Commands(), nil
	}
	if err := s.Plan.Record(k); err != nil {
		return nil, err
	}
	if known {
		return s.Plan.Commands(), nil
	}
	return s.Plan.RepairCommands(k)
}

// repairCommands returns the commands to repair a running box: its rules, for the ports that p publishes where nothing else
// but limits differs, its name servers and hosts file, its limits, and post_up if due. A box found at another address than
// its rules is not covered: only a real up learns the address.
func (l *Launcher) repairCommands(b *box.Box, p profiles.Profile) ([]string, error) {
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	if limits.MadeOf(l.Store, b, p) {
		if b, err = network.Republished(l.Store, k, b, p); err != nil {
			return nil, err
		}
	}
	plans, err := network.PlansOf(l.Store, k, b)
	if err != nil {
		return nil, err
	}
	rules, err := list.Concat(plans, func(p netsetup.Plan) ([]string, error) { return p.RepairCommands(k) })
	if err != nil {
		return nil, err
	}
	boxes, err := l.All()
	if err != nil {
		return nil, err
	}
	told, err := conf.Typed(l.Store, b, boxes)
	if err != nil {
		return nil, err
	}
	limits, err := limits.Typed(l.Store, b, p)
	if err != nil {
		return nil, err
	}
	way, err := lan.TypedRepair(k, b)
	if err != nil {
		return nil, err
	}
	registration, err := machine.Typed(b)
	if err != nil {
		return nil, err
	}
	var looks []string
	if len(looksDrift(l.Store, b)) > 0 {
		looks, err = units.LookCommand(l.Store, b)
	}
	return slices.Concat(rules, way, told, limits, l.TypedEntry(b), registration, looks, l.typedHooks(b, dueHooks(b, p))), err
}
