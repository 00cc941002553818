package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/network"
	"boxrun/launcher/units"
	"boxrun/netsetup"
)

// mendPatience is how long Mend waits for another boxrun that works on a box: that one mends it as well as Mend would.
const mendPatience = 3 * time.Second

// Mend puts right what is boxrun's, of every box: what up does for one that runs, what down does for one that is dead;
// then leases, rules and networks that no box needs. It gives a line for each thing it did, and goes on past errors.
func (l *Launcher) Mend(ctx context.Context) ([]string, error) {
	k, err := network.OpenKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	boxes, err := l.All()
	if err != nil && !errors.Is(err, box.ErrUnreadable) { // which mendHost tells
		return nil, err
	}
	var mended []string
	var errs []error
	for _, b := range boxes {
		lines, err := l.mendBox(ctx, k, b.Name)
		for _, line := range lines {
			mended = append(mended, b.Name+": "+line)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("mending %s: %w", b.Name, err))
		}
	}
	lines, err := l.mendHost(ctx, k)
	return append(mended, lines...), errors.Join(append(errs, err)...)
}

// mendBox mends one box, or clears it away where it is dead. One that another boxrun works on is left to that, and one that
// systemd is about to start anew to systemd.
func (l *Launcher) mendBox(ctx context.Context, k *netsetup.Kernel, name string) ([]string, error) {
	patience, cancel := context.WithTimeout(ctx, mendPatience)
	defer cancel()
	unlock, err := l.LockBox(patience, name)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	b, err := l.Load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it went meanwhile
	}
	if err != nil {
		return nil, err
	}
	if b.Phase != box.Running || !b.Alive() {
		if units.Watches(ctx, l.Store, b) {
			return nil, nil
		}
		_, err := l.clear(ctx, k, b, rollbackTimeout)
		return []string{fmt.Sprintf("took away what was left of it: it was %s; \"boxrun up %s\" starts it anew", b.State(), name)}, err
	}
	mended, err := network.Repair(ctx, l.Store, k, b)
	if errors.Is(err, netsetup.ErrNoAddress) {
		return mended, nil // the checks name it: only a restart mends that
	}
	if err != nil {
		return mended, err
	}
	ping, err := mendPing(b)
	return append(mended, ping...), err
}

// mendPing lets every user of a box on a bridge ping, where net.ipv4.ping_group_range of the box's network lets not all.
func mendPing(b *box.Box) ([]string, error) {
	if !b.Bridged() {
		return nil, nil
	}
	was, err := network.AllowPing(b.Init.PID)
	if err != nil || was == network.PingGroups {
		return nil, err
	}
	return []string{fmt.Sprintf("net.ipv4.ping_group_range was %q in its network, and let no user ping", was)}, nil
}

// mendHost takes away what no box needs: leases of the dead, rules and bridges of boxes that are gone, networks of
// killed doctors.
func (l *Launcher) mendHost(ctx context.Context, k *netsetup.Kernel) ([]string, error) {
	unlock, err := l.LockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	boxes, err := l.All()
	if err != nil {
		return nil, err
	}
	leases := network.CollectLeases(l.Store)
	k.Reread()
	swept, sweepErr := netsetup.Sweep(k, box.Names(boxes))
	devices, deviceErr := netsetup.SweepOutsiders()
	var mended []string
	for _, file := range leases {
		mended = append(mended, "removed the lease of a dead owner: "+file)
	}
	for _, name := range swept {
		mended = append(mended, network.SweptLine(name))
	}
	for _, name := range devices {
		mended = append(mended, "removed what a killed doctor left: "+name)
	}
	told, nameErr := conf.TellNames(l.Store)
	return append(mended, told...), errors.Join(sweepErr, deviceErr, network.Lower(l.Store, k, boxes), nameErr)
}
