package launcher

import (
	"context"
	"fmt"

	"boxrun/netsetup"
)

// repair puts right what drifted of a box that runs: the shared network, its own rules, the address they lead to, and
// what boxes know of each other. It returns a line for each thing that was out of place.
func (l *Launcher) repair(ctx context.Context, k *netsetup.Kernel, b *Box) ([]string, error) {
	if !b.bridged() {
		return nil, nil
	}
	mended, err := l.repairShared(ctx, k, b)
	if err != nil {
		return mended, err
	}
	rules, err := l.repairRules(k, b)
	mended = append(mended, rules...)
	if err != nil {
		return mended, err
	}
	names, err := l.repairNames(ctx)
	return append(mended, names...), err
}

// repairShared mends what the box shares with others.
func (l *Launcher) repairShared(ctx context.Context, k *netsetup.Kernel, b *Box) ([]string, error) {
	unlock, err := l.lockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return l.raise(k, l.network(b))
}

// repairRules mends the box's own rules, and leads them to where it is.
func (l *Launcher) repairRules(k *netsetup.Kernel, b *Box) ([]string, error) {
	moved, err := b.moved()
	if err != nil {
		return nil, err
	}
	if moved == "" {
		return mend(k, b.Ports)
	}
	if err := b.Ports.Undo(k); err != nil {
		return nil, err
	}
	return []string{moved}, l.publish(k, b)
}

// repairNames mends the boxes' hosts files, when the box is known to be where it is.
func (l *Launcher) repairNames(ctx context.Context) ([]string, error) {
	unlock, err := l.lockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return l.tellNames()
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
	plans, err := l.plansOf(b)
	if err != nil {
		return all, err
	}
	for _, plan := range plans {
		lines, err := plan.Drift(k)
		if err != nil {
			return all, err
		}
		all = append(all, lines...)
	}
	boxes, err := l.boxes()
	if err != nil {
		return all, err
	}
	names, err := l.namesDrift(b, boxes)
	if names != "" {
		all = append(all, names)
	}
	return all, err
}

// plansOf gives the plans that a box needs on the host, in the order of work; none where it is not on a bridge.
func (l *Launcher) plansOf(b *Box) ([]netsetup.Plan, error) {
	if !b.bridged() {
		return nil, nil
	}
	plans := make([]netsetup.Plan, 2, 3)
	for i, file := range []string{l.hostFile(), l.bridgeFile(b.Profile.Network.Bridge)} {
		if err := readJSON(file, &plans[i]); err != nil {
			return nil, err
		}
	}
	return append(plans, b.Ports), nil
}
