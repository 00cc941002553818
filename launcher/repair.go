package launcher

import (
	"context"
	"fmt"

	"boxrun/netsetup"
)

// repair puts right what drifted of a box that runs: the shared network, its own rules, and the address they lead to.
// It returns a line for each thing that was out of place.
func (l *Launcher) repair(ctx context.Context, k *netsetup.Kernel, b *Box) ([]string, error) {
	if !b.bridged() {
		return nil, nil
	}
	mended, err := l.repairShared(ctx, k, b)
	if err != nil {
		return mended, err
	}
	moved, err := b.moved()
	if err != nil {
		return mended, err
	}
	if moved == "" {
		drift, err := mend(k, b.Ports)
		return append(mended, drift...), err
	}
	if err := b.Ports.Undo(k); err != nil {
		return mended, err
	}
	return append(mended, moved), l.publish(k, b)
}

// repairShared mends what the box shares with others.
func (l *Launcher) repairShared(ctx context.Context, k *netsetup.Kernel, b *Box) ([]string, error) {
	unlock, err := l.lockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	mended, err := l.raise(k, l.network(b))
	if err != nil {
		return mended, err
	}
	names, err := l.tellNames()
	return append(mended, names...), err
}

// moved says where the box is now when that is not where its rules lead; "" when they are right.
func (b *Box) moved() (string, error) {
	link, err := netsetup.BoxLink(b.Init.PID, boxDevice)
	if err != nil {
		return "", err
	}
	if link.Addr.Addr() == b.Addr && link.Veth == b.Veth {
		return "", nil
	}
	return fmt.Sprintf("the box is at %s on %s, its rules led to %s on %s", link.Addr.Addr(), link.Veth, b.Addr, b.Veth), nil
}

// drift gives all that is out of place of what the box needs on the host. It changes nothing.
func (l *Launcher) drift(k *netsetup.Kernel, b *Box) ([]string, error) {
	if !b.bridged() {
		return nil, nil
	}
	var all []string
	moved, err := b.moved()
	if err != nil {
		return nil, err
	}
	if moved != "" {
		all = append(all, moved)
	}
	for _, file := range []string{l.hostFile(), l.bridgeFile(b.Profile.Network.Bridge)} {
		plan := netsetup.Plan{}
		if err := readJSON(file, &plan); err != nil {
			return all, err
		}
		lines, err := plan.Drift(k)
		if err != nil {
			return all, err
		}
		all = append(all, lines...)
	}
	lines, err := b.Ports.Drift(k)
	if err != nil {
		return all, err
	}
	boxes, err := l.boxes()
	if err != nil {
		return all, err
	}
	names, err := l.namesDrift(b, boxes)
	if names != "" {
		lines = append(lines, names)
	}
	return append(all, lines...), err
}
