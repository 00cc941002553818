package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"boxrun/netsetup"
)

// mendPatience is how long Mend waits for another boxrun that works on a box: that one mends it as well as Mend would.
const mendPatience = 3 * time.Second

// Mend puts right what is boxrun's, of every box: what up does for one that runs, what down does for one that is dead;
// then leases, rules and networks that no box needs. It gives a line for each thing it did, and goes on past errors.
func (l *Launcher) Mend(ctx context.Context) ([]string, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	boxes, err := l.boxes()
	if err != nil {
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

// mendBox mends one box, or clears it away where it is dead. One that another boxrun works on is left to that.
func (l *Launcher) mendBox(ctx context.Context, k *netsetup.Kernel, name string) ([]string, error) {
	patience, cancel := context.WithTimeout(ctx, mendPatience)
	defer cancel()
	unlock, err := l.lockBox(patience, name)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	b, err := l.load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it went meanwhile
	}
	if err != nil {
		return nil, err
	}
	if b.Phase != Running || !b.alive() {
		_, err := l.clear(ctx, k, b, rollbackTimeout)
		return []string{fmt.Sprintf("took away what was left of it: it was %s; \"boxrun up %s\" starts it anew", b.state(), name)}, err
	}
	mended, err := l.repair(ctx, k, b)
	if err != nil {
		return mended, err
	}
	ping, err := l.mendPing(ctx, b)
	return append(mended, ping...), err
}

// mendPing lets every user of a box ping, where the box's ping works for root alone. The setting is of the box's own
// network and goes with it; a systemd on a machine of its own sets it as well.
func (l *Launcher) mendPing(ctx context.Context, b *Box) ([]string, error) {
	if !b.bridged() {
		return nil, nil
	}
	d := &doctor{l: l}
	if d.ping(ctx, b).Status != Fail {
		return nil, nil
	}
	const file, all = "/proc/sys/net/ipv4/ping_group_range", "0 2147483647"
	var was []byte
	err := netsetup.InNetworkOf(b.Init.PID, func() (err error) {
		if was, err = os.ReadFile(file); err != nil {
			return err
		}
		return os.WriteFile(file, []byte(all), 0)
	})
	if err != nil {
		return nil, fmt.Errorf("letting users ping: %w", err)
	}
	before := strings.Join(strings.Fields(string(bytes.TrimSpace(was))), " ")
	return []string{fmt.Sprintf("net.ipv4.ping_group_range was %q in its network, and let no user ping", before)}, nil
}

// mendHost takes away what no box needs: leases of the dead, rules and bridges of boxes that are gone, networks of
// killed doctors.
func (l *Launcher) mendHost(ctx context.Context, k *netsetup.Kernel) ([]string, error) {
	unlock, err := l.lockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	boxes, err := l.boxes()
	if err != nil {
		return nil, err
	}
	leases, leaseErr := netsetup.CollectLeases(l.leaseDirs()...)
	k.Reread()
	swept, sweepErr := netsetup.Sweep(k, nameList(boxes))
	devices, deviceErr := netsetup.SweepOutsiders()
	var mended []string
	for _, file := range leases {
		mended = append(mended, "removed the lease of a dead owner: "+file)
	}
	for _, name := range swept {
		mended = append(mended, fmt.Sprintf("removed the rules of %q, of which there is no box", name))
	}
	for _, name := range devices {
		mended = append(mended, "removed what a killed doctor left: "+name)
	}
	return mended, errors.Join(leaseErr, sweepErr, deviceErr, l.lower(k, boxes))
}

func nameList(boxes []*Box) []string {
	list := make([]string, len(boxes))
	for i, b := range boxes {
		list[i] = b.Name
	}
	return list
}
