package lan

import (
	"fmt"
	"net/netip"
	"os"

	"boxrun/launcher/box"
	"boxrun/netsetup"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/lan"
)

// bothOf returns what leads the answers in a box on a bridge and on a LAN.
func bothOf(b *box.Box) (lan.Both, error) {
	n, subnet6 := b.Profile.Network, box.Subnet6(b.Profile.Network)
	bridge := netsetup.Network{Bridge: n.Bridge, Subnet: n.Subnet, Subnet6: subnet6}
	both := lan.Both{
		Bridge: []lan.Leg{{Device: "eth0", Addr: netip.PrefixFrom(b.Addr, n.Subnet.Bits()), Gateway: bridge.Gateway()}},
		LAN:    lan.Leg{Device: Device(b), Addr: n.Address, Gateway: n.Gateway},
		LAN6:   lan.Leg{Device: Device(b), Addr: n.Address6, Gateway: n.Gateway6},
	}
	if a := b.Addr6(); a.IsValid() {
		both.Bridge = append(both.Bridge, lan.Leg{Device: "eth0", Addr: netip.PrefixFrom(a, subnet6.Bits()), Gateway: bridge.Gateway6()})
	}
	parent, err := lan.LookParent(b.Parent)
	for _, addr := range parent.Addrs {
		both.Hosts = append(both.Hosts, addr.Addr())
	}
	return both, err
}

// answersOf returns what to change in a running box for its answers to leave where the questions came in; nothing for a box
// with a single network.
func answersOf(b *box.Box) (lan.Change, error) {
	if !b.OnBoth() {
		return lan.Change{}, nil
	}
	both, err := bothOf(b)
	if err != nil {
		return lan.Change{}, err
	}
	var change lan.Change
	err = dump.InNetworkOf(b.Init.PID, func() (err error) {
		change, err = both.Change(dump.OfHost())
		return err
	})
	return change, err
}

// answersForeseen returns what a person would type for what leadAnswers does in a box that starts.
func answersForeseen(b *box.Box) ([]string, error) {
	if !b.OnBoth() {
		return nil, nil
	}
	both, err := bothOf(b)
	return append([]string{"nsenter -t $PID -n sysctl -qw net.ipv4.ip_forward=0"}, both.Foreseen().Commands("$PID")...), err
}

// leadAnswers has the answers of a box leave where the questions came in. A box that starts leads nobody from one of its
// networks to the other: the kernel may give new networks the forwarding of the host.
func leadAnswers(b *box.Box) error {
	if !b.OnBoth() {
		return nil
	}
	both, err := bothOf(b)
	if err != nil {
		return err
	}
	err = dump.InNetworkOf(b.Init.PID, func() error {
		h := dump.OfHost()
		change, err := both.Change(h)
		if err == nil {
			err = change.Apply(h)
		}
		if err == nil && b.Phase == box.Starting {
			err = os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("leading the answers of box %s: %w", b.Name, err)
	}
	return nil
}
