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

// mendPatience limits how long Mend waits for another boxrun that works on a box. The other boxrun repairs the box as
// well as Mend would.
const mendPatience = 3 * time.Second

// Mend repairs what boxrun has set up, for all boxes. A running box is repaired as by up, and a dead box is cleared
// away as by down. Then Mend removes leases, rules and networks that no box needs. Mend returns a line for each
// repair, and continues after errors; the errors are joined.
func (l *Launcher) Mend(ctx context.Context) ([]string, error) {
	k, err := network.OpenKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	boxes, err := l.All()
	if err != nil && !errors.Is(err, box.ErrUnreadable) { // mendHost reports ErrUnreadable
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

// mendBox repairs a box, or clears a dead box away. It returns a line for each repair. Two kinds of boxes are left
// alone: boxes another boxrun works on, and boxes systemd is about to start anew.
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
		return nil, nil // the box went down meanwhile
	}
	if err != nil {
		return nil, err
	}
	if b.Phase != box.Running || !b.Alive() {
		if units.Supervises(ctx, b) {
			return nil, nil
		}
		_, err := l.clear(ctx, k, b, rollbackTimeout)
		return []string{fmt.Sprintf("took away what was left of it: it was %s; \"boxrun up %s\" starts it anew", b.State(), name)}, err
	}
	mended, err := network.Repair(ctx, l.Store, k, b)
	if errors.Is(err, netsetup.ErrNoAddress) {
		return mended, nil // only a restart repairs a lost address; the checks say so
	}
	if err != nil {
		return mended, err
	}
	ping, err := mendPing(b)
	return append(mended, ping...), err
}

// mendPing makes ping work for every user of a box, if the box's ping works only for root.
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

// mendHost removes what no box needs: leases of dead owners, rules and bridges of boxes that are gone, and networks
// of killed doctors. It also rewrites wrong names in boxes. It returns a line for each repair.
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
