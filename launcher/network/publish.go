package network

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/lan"
	"boxrun/netsetup"
	"boxrun/netsetup/leases"
	"boxrun/netsetup/offload"
	"boxrun/netsetup/rules"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// CollectLeases removes the leases of dead owners and returns their paths. Some leases may belong to another runtime.
// Errors with leases are therefore only warnings: they stop no box of boxrun's from starting or stopping.
func CollectLeases(s *box.Store) []string {
	removed, err := leases.Collect(LeaseDirs(s)...)
	for _, e := range fault.Split(err) {
		s.Notef("warning: %v", e)
	}
	return removed
}

// Of returns the bridge network the box's profile asks for.
func Of(s *box.Store, b *box.Box) netsetup.Network {
	n := b.Profile.Network
	return netsetup.Network{
		Bridge:  n.Bridge,
		Subnet:  n.Subnet,
		Subnet6: box.Subnet6(n),
		MTU:     b.MTU,
		Offload: offload.Mode(n.Offload),
		Marks:   uint32(cmp.Or(n.Marks, profiles.Default().Network.Marks)), // older boxruns kept no marks
		Dir:     s.Dir,
		Others:  b.OtherLeases,
	}.LookManagers()
}

// memory is where the store keeps what iptables-save said, while any box has a record.
func memory(s *box.Store) rules.Memory { return rules.Memory{Dir: s.Dir, While: s.Path("boxes")} }

// OpenKernel opens the kernel's network state, to apply plans to. While boxes are up, what iptables-save said is kept in the
// store. Without iptables the error is ErrRefused.
func OpenKernel(s *box.Store) (*netsetup.Kernel, error) {
	k, err := netsetup.Open()
	if errors.Is(err, rules.ErrNoIptables) {
		return nil, fault.Refused("install the package iptables", "%v", err)
	}
	if err == nil {
		k.Remember(memory(s))
	}
	return k, err
}

// Address returns the box's fixed address, or the lowest free address. Leases of dead boxes are removed first.
func Address(s *box.Store, b *box.Box, others []*box.Box) (netip.Addr, error) {
	CollectLeases(s)
	return FreeAddr(Of(s, b), b.Profile.Network.IP, AddrsOf(others))
}

// AddrsOf returns the names of boxes by address.
func AddrsOf(boxes []*box.Box) map[netip.Addr]string {
	addrs := map[netip.Addr]string{}
	for _, b := range boxes {
		addrs[b.Addr] = b.Name
	}
	return addrs
}

// FreeAddr is netsetup.FreeAddr with a hint if no address is free.
func FreeAddr(n netsetup.Network, want netip.Addr, taken map[netip.Addr]string, leaving ...netip.Addr) (netip.Addr, error) {
	addr, err := netsetup.FreeAddr(n, want, taken, leaving...)
	switch {
	case err == nil:
		return addr, nil
	case want.IsValid():
		return addr, fault.Refused("leave network.ip out, or take another", "network.ip: %v", err)
	}
	return addr, fault.Refused("take a box on "+n.Bridge+" down, or use a larger network.subnet on another network.bridge", "%v", err)
}

// External returns the interface by which packets of a network leave the host: network.external, or the interface of
// the host's default route.
func External(n profiles.Network) (netsetup.External, error) {
	if n.External == "" {
		return netsetup.DefaultExternal()
	}
	return netsetup.ExternalNamed(n.External)
}

// hintedExternal is External with a hint if network.external is missing.
func hintedExternal(n profiles.Network) (netsetup.External, error) {
	external, err := External(n)
	if err != nil && n.External != "" {
		err = fault.Refused("name an interface that \"ip link\" shows, or leave network.external out", "network.external: %v", err)
	}
	return external, err
}

// LeaseDirs returns the directories of host-local's leases, for boxrun's networks and for Apptainer's own.
func LeaseDirs(s *box.Store) []string { return []string{s.Path("leases"), "/var/lib/cni/networks"} }

// Lead puts in place the rules that a box shares with others, and the box's own rules for the address reserved for the box.
// Lead returns what was out of place of the shared network. The caller holds the network's lock.
func Lead(s *box.Store, k *netsetup.Kernel, b *box.Box) (repaired []string, err error) {
	rules, err := BoxRules(b)
	if err != nil {
		return nil, err
	}
	b.Ports = netsetup.Ports(rules).OnlyRules()
	if err := s.Save(b); err != nil {
		return nil, err
	}
	return Raise(s, k, Of(s, b), b.Ports)
}

// Publish looks up where the box is, and installs the box's rules in place of old rules; to a box on the LAN, Publish
// leads the host. A veth or an address left by the box gets its first state again. A box without a bridge has no rules.
// The error is ErrNoAddress if the box has given itself an address that is not the box's to take: rules would lead
// strangers to where the address belongs.
func Publish(s *box.Store, k *netsetup.Kernel, b *box.Box) error {
	if b.Bridged() {
		if err := publish(s, k, b); err != nil {
			return err
		}
	}
	if !b.OnLAN() {
		return nil
	}
	letPing(s, b)
	return lan.Follow(s, k, b)
}

// publish is Publish for a box on a bridge.
func publish(s *box.Store, k *netsetup.Kernel, b *box.Box) error {
	k.Reread() // the box took its time to boot
	link, err := netsetup.BoxLink(b.Init.PID, BoxDevice)
	if err != nil {
		return err
	}
	if err := refuseMove(s, b, link); err != nil {
		return err
	}
	b.Addr, b.Veth = link.Addr.Addr(), link.Veth
	if err := forget(b); err != nil {
		return err
	}
	rules, err := BoxRules(b)
	if err != nil {
		return err
	}
	plan, old := netsetup.Ports(rules), b.Ports
	if err := plan.Record(k); err != nil {
		return err
	}
	plan.Inherit(old)
	b.Ports = plan
	if err := s.Save(b); err != nil {
		return err
	}
	if err := ensureInside6(b); err != nil {
		return err
	}
	letPing(s, b)
	if err := b.Ports.Apply(k); err != nil {
		return err
	}
	return leave(k, old, b.Ports)
}

// refuseMove refuses an address a start would not have given the box.
func refuseMove(s *box.Store, b *box.Box, link netsetup.Link) error {
	if link.Addr.Addr() == b.Addr {
		return nil
	}
	boxes, err := s.Others(b.Name)
	if err != nil {
		return err
	}
	err = netsetup.RefuseMove(Of(s, b), link, b.Init.PID, b.Ports.Owner, AddrsOf(boxes))
	if err == nil {
		return nil
	}
	return noAddress(b, fmt.Sprintf("has given itself an address, at which nothing is published: %v", err))
}

// noAddress is the error ErrNoAddress for a box.
func noAddress(b *box.Box, why string) error {
	return &fault.Problem{Kind: netsetup.ErrNoAddress, Text: b.Name + " " + why,
		Hint: fmt.Sprintf("\"boxrun restart %s\" gives it one", b.Name)}
}

// leave undoes what plan old did to a veth and to an address, if the box now has another veth or address. The rules need
// no undo: the rules of the plan now have replaced them.
func leave(k *netsetup.Kernel, old, now netsetup.Plan) error {
	left := netsetup.Plan{Owner: old.Owner}
	if old.Plug != nil && old.Plug.Veth != now.Plug.Veth {
		left.Features, left.Plug = old.Features, old.Plug
	}
	left.Reserved = slices.DeleteFunc(slices.Clone(old.Reserved),
		func(r netsetup.Reservation) bool { return slices.Contains(now.Reserved, r) })
	if left.Plug == nil && len(left.Reserved) == 0 {
		return nil
	}
	return left.Undo(k)
}

// BoxDevice is the name of the first network's device inside a box (NewSetupFromConfig in pkg/network).
const BoxDevice = "eth0"

// BoxRules returns the input for the box's rules.
func BoxRules(b *box.Box) (netsetup.Box, error) {
	n := b.Profile.Network
	ports, err := PublishedPorts(n, n.Ports...)
	return netsetup.Box{
		Name: b.Name, Bridge: n.Bridge, Subnet: n.Subnet, Subnet6: box.Subnet6(n), Addr: b.Addr, Veth: b.Veth,
		Device: BoxDevice, PID: b.Init.PID, Offload: offload.Mode(n.Offload), Ports: ports, AllowFrom: n.AllowFrom, Others: b.OtherLeases,
		Metadata: n.Metadata == "allow",
	}, err
}

// PublishedPorts returns ports with the addresses they are published on. A port with its own address keeps the address.
// With network.external, other ports are on the interface's present addresses; otherwise everywhere. If the interface
// is missing, PublishedPorts returns an error, and no other ports.
func PublishedPorts(n profiles.Network, ports ...port.Port) ([]netsetup.Port, error) {
	if n.External == "" {
		return HostPorts(ports), nil
	}
	external, err := hintedExternal(n)
	return publishedOn(n, external, ports), err
}

// publishedOn is PublishedPorts for an external interface looked up before.
func publishedOn(n profiles.Network, external netsetup.External, ports []port.Port) []netsetup.Port {
	if n.External == "" {
		return HostPorts(ports)
	}
	addrs := external.Addrs
	if !box.HasIPv6(n) {
		addrs = slices.DeleteFunc(slices.Clone(addrs), netip.Addr.Is6)
	}
	return netsetup.On(addrs, HostPorts(ports)...)
}

// claims returns the published ports with those of every address once more for IPv6, where the box has IPv6: a socket of
// IPv6 alone holds only these.
func claims(n profiles.Network, published []netsetup.Port) []netsetup.Port {
	if !box.HasIPv6(n) {
		return published
	}
	all := slices.Clone(published)
	for _, p := range published {
		if !p.HostIP.IsValid() && !p.Only4 {
			p.HostIP = netip.IPv6Unspecified()
			all = append(all, p)
		}
	}
	return all
}

// HostPorts returns a profile's ports as netsetup takes them.
func HostPorts(ports []port.Port) []netsetup.Port {
	out := make([]netsetup.Port, len(ports))
	for i, p := range ports {
		out[i] = netsetup.Port(p)
	}
	return out
}

// ExternalAtStart is External with a hint if network.external is missing; zero without a bridge.
func ExternalAtStart(n profiles.Network) (netsetup.External, error) {
	if n.Mode != profiles.BridgeMode {
		return netsetup.External{}, nil
	}
	return hintedExternal(n)
}

// BridgeMTU returns the MTU of the profile's bridge; 0 without a bridge. The MTU is never above the MTU of external, the
// result of ExternalAtStart, because large packets would be dropped there. A larger network.mtu is an ErrRefused.
func BridgeMTU(n profiles.Network, external netsetup.External) (int, error) {
	switch {
	case n.Mode != profiles.BridgeMode:
		return 0, nil
	case external.MTU != 0 && n.MTU > external.MTU:
		return 0, fault.Refused(fmt.Sprintf("leave mtu out, or set at most %d", external.MTU),
			"network.mtu: %d is above the %d of %s", n.MTU, external.MTU, external.Name)
	}
	return cmp.Or(n.MTU, external.MTU), nil
}
