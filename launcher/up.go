package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// UpOptions are the choices of one up.
type UpOptions struct {
	NoWait  bool           // return when the rules are in place, without waiting for the box's systemd
	Timeout *time.Duration // nil: the profile's ready.timeout
	Replace bool           // stop a box whose profile or image changed since its start, and start it anew
	Anew    bool           // the same, whatever the profile

	restarts int // how often systemd has started the box anew, this time included
}

// Up is what an up did.
type Up struct {
	Box     *Box
	Started bool              // false: it was up before
	Mended  []string          // of a box that was up: what was out of place
	Changed bool              // the profile is not the one the box was started with
	Image   string            // of a box that was up: what has become of its image, "" for nothing: see imageNow
	Secrets []string          // of a box that was up: names of secrets whose files have changed since
	Failed  []failedUnit      // units that failed at boot, with their last log lines
	Killed  error             // ErrKilled: of a box that was to start anew, and did not stop by itself
	Host    []netsetup.Change // what became different of the host's network while a box booted that shares it
}

// Up brings a box up, or checks and mends one that is up. A start that fails leaves nothing behind; a box that is not
// ready in time stays (ErrNotReady), and so does one of whose post_up a command failed (ErrHook). What a killed boxrun left
// of the box is cleared first. From then on systemd watches a box that is enabled.
func (l *Launcher) Up(ctx context.Context, p profiles.Profile, o UpOptions) (Up, error) {
	up, err := l.upLocked(ctx, p, o)
	if up.Box == nil || err != nil && !Stays(err) {
		return up, err
	}
	return up, errors.Join(err, l.watched(ctx, up.Box, p))
}

// Stays says whether a box that an up failed with is up all the same.
func Stays(err error) bool { return errors.Is(err, ErrNotReady) || errors.Is(err, ErrHook) }

// upLocked is all of an up for which the box's lock is needed.
func (l *Launcher) upLocked(ctx context.Context, p profiles.Profile, o UpOptions) (Up, error) {
	unlock, err := l.lockBox(ctx, p.Name)
	if err != nil {
		return Up{}, err
	}
	defer unlock()
	if err := l.hookAgain(ctx, p.Name); err != nil {
		return Up{}, err
	}
	k, err := openKernel()
	if err != nil {
		return Up{}, err
	}
	defer k.Close()

	b, err := l.load(p.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.upNew(ctx, k, p, o)
	case err != nil:
		return Up{}, err
	case l.staysUp(b, p, o):
		up, err := l.upAgain(ctx, k, b, p, o)
		if err == nil || ctx.Err() != nil || Stays(err) || !b.ends(ctx) {
			return up, err
		}
		return l.upInstead(ctx, k, b, p, o) // it was dying as we came
	default:
		return l.upInstead(ctx, k, b, p, o)
	}
}

// staysUp says whether an up leaves the box where it is, and mends it.
func (l *Launcher) staysUp(b *Box, p profiles.Profile, o UpOptions) bool {
	return b.Phase == Running && b.alive() && !o.Anew && (!o.Replace || len(l.changed(b, &p)) == 0)
}

// upNew starts a box of which there is nothing yet.
func (l *Launcher) upNew(ctx context.Context, k *netsetup.Kernel, p profiles.Profile, o UpOptions) (Up, error) {
	if err := l.refuse(k, p); err != nil {
		return Up{}, err
	}
	watch, err := watchHost(p)
	if err != nil {
		return Up{}, err
	}
	up, err := l.bringUp(ctx, k, p, o)
	changes, lookErr := watch.changes()
	up.Host = changes
	return up, errors.Join(err, lookErr)
}

// bringUp starts a box and waits for it.
func (l *Launcher) bringUp(ctx context.Context, k *netsetup.Kernel, p profiles.Profile, o UpOptions) (Up, error) {
	b, err := l.start(ctx, k, p, o)
	if err != nil {
		return Up{}, l.rollback(ctx, k, b, err)
	}
	up := Up{Box: b, Started: true}
	if o.NoWait {
		return up, nil
	}
	err = l.finish(ctx, b, p, o, &up)
	if err != nil && !Stays(err) { // it died, or a person gave up
		return up, l.rollback(ctx, k, b, err)
	}
	return up, err
}

// finish waits until the box is ready, and runs its post_up where that is due.
func (l *Launcher) finish(ctx context.Context, b *Box, p profiles.Profile, o UpOptions, up *Up) error {
	if err := l.await(ctx, b, o, up); err != nil {
		return err
	}
	return l.runHooks(ctx, b, p)
}

// upAgain mends a box that is up, and waits until it is ready.
func (l *Launcher) upAgain(ctx context.Context, k *netsetup.Kernel, b *Box, p profiles.Profile, o UpOptions) (Up, error) {
	mended, err := l.repair(ctx, k, b)
	if err == nil {
		err = l.settle(ctx, b) // in case the boxrun that started it did not come to that
	}
	if err == nil {
		l.warnOfNeighbours(b)
		var held []string
		held, err = l.limitAnew(ctx, b, p)
		mended = append(mended, held...)
	}
	up := Up{Box: b, Mended: mended, Changed: !l.madeOf(b, p), Image: b.imageNow(), Secrets: l.changedSecrets(p)}
	if err != nil || o.NoWait {
		return up, err
	}
	return up, l.finish(ctx, b, p, o, &up)
}

// upInstead clears what there is of the box, dead or alive, and starts it anew. What can be refused is refused while
// the old one still stands, and of one that runs it is said what has changed.
func (l *Launcher) upInstead(ctx context.Context, k *netsetup.Kernel, b *Box, p profiles.Profile, o UpOptions) (Up, error) {
	if err := l.refuse(k, p); err != nil {
		return Up{}, err
	}
	if b.Phase == Running && ownUnit() == instanceUnit(p) {
		o.restarts = b.Restarts + 1
	}
	if words := l.changed(b, &p); len(words) > 0 {
		l.notef("%s: starts anew: its %s changed since the start", b.Name, strings.Join(words, " and its "))
	}
	_, killed := l.clear(ctx, k, b, stopTimeout(b))
	if killed != nil && !errors.Is(killed, ErrKilled) {
		return Up{}, killed
	}
	up, err := l.upNew(ctx, k, p, o)
	up.Killed = killed
	return up, err
}

// rollback clears a box whose start failed. Rolling back is what down does; an interrupt does not cut it short.
func (l *Launcher) rollback(ctx context.Context, k *netsetup.Kernel, b *Box, cause error) error {
	if b == nil {
		return cause
	}
	timeout := rollbackTimeout
	if b.Phase == Running { // its services run, and may have begun to write
		timeout = stopTimeout(b)
	}
	_, err := l.clear(context.WithoutCancel(ctx), k, b, timeout)
	if errors.Is(err, ErrKilled) {
		err = nil // a box that failed to start owes nobody a clean end
	}
	return errors.Join(cause, err)
}

// rollbackTimeout is how long a box that failed to start may take to stop.
const rollbackTimeout = 10 * time.Second

// start takes a box from nothing to phase running. The box it returns with an error is what there is to clear; nil
// where nothing was begun.
func (l *Launcher) start(ctx context.Context, k *netsetup.Kernel, p profiles.Profile, o UpOptions) (*Box, error) {
	mtu, err := bridgeMTU(p.Network)
	if err != nil {
		return nil, err
	}
	b, err := l.newBox(p, unitFor(p), mtu)
	if err != nil {
		return nil, err
	}
	b.Restarts = o.restarts
	if err := l.reserve(ctx, k, b); err != nil {
		return b, err
	}
	if err := l.boot(ctx, k, b, p); err != nil {
		return b, err
	}
	b.Phase, b.MadeOverlay, b.MadeDirs = Running, false, nil
	if err := l.save(b); err != nil {
		return b, err
	}
	return b, l.settle(ctx, b)
}

// reserve raises the network and saves the box with an address no other has. From then on its image is in use.
func (l *Launcher) reserve(ctx context.Context, k *netsetup.Kernel, b *Box) error {
	unlock, err := l.lockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	others, err := l.others(b.Name)
	if err != nil {
		return err
	}
	// A box that comes at the same time has claimed what it needs since refuse looked, and is seen, or has not looked yet.
	if err := refuseAmong(b.Profile, others); err != nil {
		return err
	}
	if err := b.noteImage(b.Profile.Image); err != nil {
		return err
	}
	if err := l.save(b); err != nil || !b.bridged() {
		return err
	}
	mended, err := l.raise(k, l.network(b))
	if err != nil {
		return err
	}
	for _, line := range mended {
		l.notef("mended: %s", line)
	}
	if err := l.sweep(k, append(others, b)); err != nil {
		return err
	}
	if b.Addr, err = l.address(b, others); err != nil {
		return err
	}
	return l.save(b)
}

// refuseAmong looks for what of a profile's is another box's.
func refuseAmong(p profiles.Profile, others []*Box) error {
	errs := []error{refusePublished(p, others), refuseNetwork(p, others)}
	if p.Storage.Root == "overlay" {
		errs = append(errs, refuseTaken(p, others))
	}
	return errors.Join(errs...)
}

// address gives the box's fixed address, or the lowest that is free once the leases of the dead are gone.
func (s *Store) address(b *Box, others []*Box) (netip.Addr, error) {
	s.collectLeases()
	return freeAddr(s.network(b), b.Profile.Network.IP, addrsOf(others))
}

// addrsOf gives which box has which address.
func addrsOf(boxes []*Box) map[netip.Addr]string {
	addrs := map[netip.Addr]string{}
	for _, b := range boxes {
		addrs[b.Addr] = b.Name
	}
	return addrs
}

// freeAddr is netsetup.FreeAddr with what to do where there is none.
func freeAddr(n netsetup.Network, want netip.Addr, taken map[netip.Addr]string, leaving ...netip.Addr) (netip.Addr, error) {
	addr, err := netsetup.FreeAddr(n, want, taken, leaving...)
	if err != nil && want.IsValid() {
		return addr, refused("leave network.ip out, or take another", "network.ip: %v", err)
	}
	if err != nil {
		return addr, refused("take a box on "+n.Bridge+" down, or use a larger network.subnet on another network.bridge", "%v", err)
	}
	return addr, nil
}

// externalNamed is netsetup.ExternalNamed with what to do where there is no such interface.
func externalNamed(name string) (netsetup.External, error) {
	external, err := netsetup.ExternalNamed(name)
	if err != nil {
		return external, invalid("name an interface that \"ip link\" shows, or leave network.external out", "network.external: %v", err)
	}
	return external, nil
}

// leaseDirs are where host-local keeps the leases of boxrun's networks, and of Apptainer's own.
func (s *Store) leaseDirs() []string { return []string{s.path("leases"), "/var/lib/cni/networks"} }

// boot runs Apptainer and puts the box's rules in place while its command line still sleeps: that one returns 200 ms after
// the box's init runs (PostStartProcess, then Launcher.Exec, sleep 100 ms each). Where it is our child it is reaped before
// boot returns, else systemd does that.
func (l *Launcher) boot(ctx context.Context, k *netsetup.Kernel, b *Box, p profiles.Profile) error {
	s, err := l.prepare(b, p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bootTimeout(p))
	defer cancel()
	cli, err := l.run(ctx, b, s.argv())
	if err != nil {
		return err
	}
	booted := l.connect(ctx, k, b, cli)
	if booted == nil {
		l.warnOfNeighbours(b)
	}
	if booted == nil && b.alive() && cli.left() {
		return nil
	}
	if err := cli.wait(ctx); err != nil {
		return err
	}
	if booted != nil {
		return booted
	}
	if !b.alive() {
		return cli.failed(errors.New("its init ended at once"))
	}
	return nil
}

// connect waits for Apptainer's record, notes the box's processes, and installs its rules.
func (l *Launcher) connect(ctx context.Context, k *netsetup.Kernel, b *Box, cli *command) error {
	r, err := cli.record(ctx, b.Record)
	if err != nil {
		return err
	}
	if err := b.adopt(r); err != nil {
		return cli.failed(err)
	}
	if err := l.save(b); err != nil {
		return err
	}
	if err := makeRootBindable(b.Init.PID); err != nil {
		return cli.failed(err)
	}
	if err := b.limitAtStart(ctx); err != nil {
		return err
	}
	return l.publish(k, b)
}

// publish finds where the box is and installs the rules for it, in the place of those it has. One that is not on a bridge
// has none.
func (s *Store) publish(k *netsetup.Kernel, b *Box) error {
	if !b.bridged() {
		return nil
	}
	link, err := netsetup.BoxLink(b.Init.PID, boxDevice)
	if err != nil {
		return err
	}
	b.Addr, b.Veth = link.Addr.Addr(), link.Veth
	if err := k.ForgetNeighbour(b.Profile.Network.Bridge, b.Addr); err != nil {
		return err
	}
	rules, err := boxRules(b)
	if err != nil {
		return err
	}
	plan := netsetup.Ports(rules)
	if err := plan.Record(k); err != nil {
		return err
	}
	if old := b.Ports.Hairpin; old != nil && old.Veth == b.Veth { // what the veth was like before, it is not any more
		plan.Features, plan.Hairpin = b.Ports.Features, old
	}
	b.Ports = plan
	if err := s.save(b); err != nil {
		return err
	}
	if _, err := allowPing(b.Init.PID); ignoreNotExist(err) != nil { // an init that ends has no network, of which the start will tell
		s.notef("%s: warning: %v", b.Name, err)
	}
	return b.Ports.Apply(k)
}

// boxDevice is the name of the first network's device inside a box (NewSetupFromConfig in pkg/network).
const boxDevice = "eth0"

// boxRules gives what the box's rules depend on.
func boxRules(b *Box) (netsetup.Box, error) {
	n := b.Profile.Network
	ports, err := publishedPorts(n, n.Ports...)
	return netsetup.Box{
		Name: b.Name, Bridge: n.Bridge, Addr: b.Addr, Veth: b.Veth,
		Offload: n.Offload == "off", Ports: ports, AllowFrom: n.AllowFrom,
	}, err
}

// publishedPorts gives ports of a profile where they are published: with network.external on the addresses that interface
// has now, a port with an address of its own on that, and any other everywhere. With the error that there is no such
// interface it gives them as everywhere.
func publishedPorts(n profiles.Network, ports ...profiles.Port) ([]netsetup.Port, error) {
	all := hostPorts(ports)
	if n.External == "" {
		return all, nil
	}
	external, err := externalNamed(n.External)
	if err != nil {
		return all, err
	}
	return netsetup.On(external.Addrs, all...), nil
}

// hostPorts gives a profile's ports as netsetup takes them.
func hostPorts(ports []profiles.Port) []netsetup.Port {
	out := make([]netsetup.Port, len(ports))
	for i, p := range ports {
		out[i] = netsetup.Port(p)
	}
	return out
}

// bridgeMTU gives the mtu of the profile's bridge: never above that of the interface its packets leave by, or large
// ones would be dropped there. Without a bridge it is 0.
func bridgeMTU(n profiles.Network) (int, error) {
	if n.Mode != profiles.BridgeMode {
		return 0, nil
	}
	external, err := netsetup.DefaultExternal()
	if n.External != "" {
		external, err = externalNamed(n.External)
	}
	if err != nil {
		return 0, err
	}
	if n.MTU == 0 || external.MTU == 0 {
		return max(n.MTU, external.MTU), nil
	}
	if n.MTU > external.MTU {
		return 0, &Problem{Kind: ErrInvalid,
			Text: fmt.Sprintf("network.mtu: %d is above the %d of %s", n.MTU, external.MTU, external.Name),
			Hint: fmt.Sprintf("leave mtu out, or set at most %d", external.MTU)}
	}
	return n.MTU, nil
}
