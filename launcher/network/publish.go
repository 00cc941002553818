package network

import (
	"errors"
	"fmt"
	"net/netip"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// CollectLeases removes the leases of the dead, and gives their paths. Some may be another runtime's: what is wrong with
// those keeps no box of boxrun's from going or coming, and is said.
func CollectLeases(s *box.Store) []string {
	removed, err := netsetup.CollectLeases(LeaseDirs(s)...)
	for _, e := range fault.Joined(err) {
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
		MTU:     b.MTU,
		Offload: n.Offload == "off",
		Dir:     s.Dir,
	}
}

// OpenKernel opens the kernel's network state, to apply plans to. Without iptables the error is ErrRefused.
func OpenKernel() (*netsetup.Kernel, error) {
	k, err := netsetup.Open()
	if errors.Is(err, netsetup.ErrNoIptables) {
		return nil, fault.Refused("install the package iptables", "%v", err)
	}
	return k, err
}

// Address gives the box's fixed address, or the lowest that is free once the leases of the dead are gone.
func Address(s *box.Store, b *box.Box, others []*box.Box) (netip.Addr, error) {
	CollectLeases(s)
	return FreeAddr(Of(s, b), b.Profile.Network.IP, AddrsOf(others))
}

// AddrsOf gives which box has which address.
func AddrsOf(boxes []*box.Box) map[netip.Addr]string {
	addrs := map[netip.Addr]string{}
	for _, b := range boxes {
		addrs[b.Addr] = b.Name
	}
	return addrs
}

// FreeAddr is netsetup.FreeAddr with what to do where there is none.
func FreeAddr(n netsetup.Network, want netip.Addr, taken map[netip.Addr]string, leaving ...netip.Addr) (netip.Addr, error) {
	addr, err := netsetup.FreeAddr(n, want, taken, leaving...)
	if err != nil && want.IsValid() {
		return addr, fault.Refused("leave network.ip out, or take another", "network.ip: %v", err)
	}
	if err != nil {
		return addr, fault.Refused("take a box on "+n.Bridge+" down, or use a larger network.subnet on another network.bridge", "%v", err)
	}
	return addr, nil
}

// externalNamed is netsetup.ExternalNamed with what to do where there is no such interface.
func externalNamed(name string) (netsetup.External, error) {
	external, err := netsetup.ExternalNamed(name)
	if err != nil {
		return external, fault.Invalid("name an interface that \"ip link\" shows, or leave network.external out", "network.external: %v", err)
	}
	return external, nil
}

// LeaseDirs are where host-local keeps the leases of boxrun's networks, and of Apptainer's own.
func LeaseDirs(s *box.Store) []string { return []string{s.Path("leases"), "/var/lib/cni/networks"} }

// Publish finds where the box is and installs the rules for it, in the place of those it has. One that is not on a bridge
// has none.
func Publish(s *box.Store, k *netsetup.Kernel, b *box.Box) error {
	if !b.Bridged() {
		return nil
	}
	link, err := netsetup.BoxLink(b.Init.PID, BoxDevice)
	if err != nil {
		return err
	}
	b.Addr, b.Veth = link.Addr.Addr(), link.Veth
	if err := k.ForgetNeighbour(b.Profile.Network.Bridge, b.Addr); err != nil {
		return err
	}
	rules, err := BoxRules(b)
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
	if err := s.Save(b); err != nil {
		return err
	}
	if _, err := AllowPing(b.Init.PID); files.IgnoreNotExist(err) != nil { // an init that ends has no network, of which the start will tell
		s.Notef("%s: warning: %v", b.Name, err)
	}
	return b.Ports.Apply(k)
}

// BoxDevice is the name of the first network's device inside a box (NewSetupFromConfig in pkg/network).
const BoxDevice = "eth0"

// BoxRules gives what the box's rules depend on.
func BoxRules(b *box.Box) (netsetup.Box, error) {
	n := b.Profile.Network
	ports, err := PublishedPorts(n, n.Ports...)
	return netsetup.Box{
		Name: b.Name, Bridge: n.Bridge, Addr: b.Addr, Veth: b.Veth,
		Offload: n.Offload == "off", Ports: ports, AllowFrom: n.AllowFrom,
	}, err
}

// PublishedPorts gives ports of a profile where they are published: with network.external on the addresses that interface
// has now, a port with an address of its own on that, and any other everywhere. With the error that there is no such
// interface it gives them as everywhere.
func PublishedPorts(n profiles.Network, ports ...profiles.Port) ([]netsetup.Port, error) {
	all := HostPorts(ports)
	if n.External == "" {
		return all, nil
	}
	external, err := externalNamed(n.External)
	if err != nil {
		return all, err
	}
	return netsetup.On(external.Addrs, all...), nil
}

// HostPorts gives a profile's ports as netsetup takes them.
func HostPorts(ports []profiles.Port) []netsetup.Port {
	out := make([]netsetup.Port, len(ports))
	for i, p := range ports {
		out[i] = netsetup.Port(p)
	}
	return out
}

// BridgeMTU gives the mtu of the profile's bridge: never above that of the interface its packets leave by, or large
// ones would be dropped there. Without a bridge it is 0.
func BridgeMTU(n profiles.Network) (int, error) {
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
		return 0, &fault.Problem{Kind: fault.ErrInvalid,
			Text: fmt.Sprintf("network.mtu: %d is above the %d of %s", n.MTU, external.MTU, external.Name),
			Hint: fmt.Sprintf("leave mtu out, or set at most %d", external.MTU)}
	}
	return n.MTU, nil
}
