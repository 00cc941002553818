package launcher

import (
	"fmt"
	"slices"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// nowhere returns the reason nobody can reach a port: the host lacks the address the port is published on. The address
// may still come, from a VPN or a DHCP server, and go again. nowhere returns "" for a port published on an existing
// address.
func (b *Box) nowhere(p profiles.Port) (string, error) {
	n := b.Profile.Network
	if !p.HostIP.IsValid() {
		if n.External == "" {
			return "", nil
		}
		external, err := externalNamed(n.External)
		if err != nil || len(external.Addrs) > 0 {
			return "", err
		}
		return fmt.Sprintf("%s has no address now", n.External), nil
	}
	local, err := netsetup.IsLocal(p.HostIP)
	if err != nil || local {
		return "", err
	}
	return fmt.Sprintf("no interface of this host has %s now", p.HostIP), nil
}

// nowhereHint is the advice for all ports found by nowhere.
const nowhereHint = "correct the profile, or give the host the address and run \"boxrun up\" again"

// cautionsOfNowhere returns a caution for each published port on a missing address, without duplicates.
func (b *Box) cautionsOfNowhere() ([]caution, error) {
	var said []caution
	for _, p := range b.Profile.Network.Ports {
		why, err := b.nowhere(p)
		if err != nil {
			return said, err
		}
		c := caution{text: fmt.Sprintf("nobody reaches %s: %s", b.shownPort(p), why), hint: nowhereHint}
		if why != "" && !slices.Contains(said, c) {
			said = append(said, c)
		}
	}
	return said, nil
}

// cautionsOfClients returns a caution naming programs with udp sockets on the box's published ports, in the range from
// which the kernel assigns ports to clients. Such a clash is chance, and no reason to refuse the box.
func (b *Box) cautionsOfClients() ([]caution, error) {
	ports, err := publishedPorts(b.Profile.Network, b.Profile.Network.Ports...)
	if err != nil {
		return nil, err
	}
	holders, err := netsetup.Listeners(ports)
	if err != nil {
		return nil, err
	}
	var who []string
	for _, h := range holders {
		if h.Passing && !b.holds(h.PID) {
			who = append(who, fmt.Sprintf("%d by %s", h.Number, h.By))
		}
	}
	if len(who) == 0 {
		return nil, nil
	}
	return []caution{{
		text: fmt.Sprintf("udp ports that it publishes are in use on the host: %s", listed(who, 3)),
		hint: "where that is no client but a server, publish other ports; sysctl net.ipv4.ip_local_reserved_ports keeps clients off them"}}, nil
}
