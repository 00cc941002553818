package network

import (
	"fmt"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/say"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// Nowhere returns the reason nobody can reach a port: the host lacks the address the port is published on. The address
// may still come, from a VPN or a DHCP server, and go again. Nowhere returns "" for a port published on an existing
// address.
func Nowhere(b *box.Box, p profiles.Port) (string, error) {
	n := b.Profile.Network
	switch {
	case p.HostIP.IsValid():
		local, err := netsetup.IsLocal(p.HostIP)
		if err != nil || local {
			return "", err
		}
		return fmt.Sprintf("no interface of this host has %s now", p.HostIP), nil
	case n.External == "":
		return "", nil
	}
	external, err := hintedExternal(n)
	if err != nil || len(external.Addrs) > 0 {
		return "", err
	}
	return fmt.Sprintf("%s has no address now", n.External), nil
}

// NowhereHint is the advice for all ports found by Nowhere.
const NowhereHint = "correct the profile, or give the host the address and run \"boxrun up\" again"

// cautionsOfNowhere returns a caution for each published port on a missing address, without duplicates.
func cautionsOfNowhere(b *box.Box) ([]fault.Caution, error) {
	var said []fault.Caution
	for _, p := range b.Profile.Network.Ports {
		why, err := Nowhere(b, p)
		if err != nil {
			return said, err
		}
		c := fault.Caution{Text: fmt.Sprintf("nobody reaches %s: %s", b.ShownPort(p), why), Hint: NowhereHint}
		if why != "" && !slices.Contains(said, c) {
			said = append(said, c)
		}
	}
	return said, nil
}

// cautionsOfClients returns a caution naming programs with udp sockets on the box's published ports, in the range from
// which the kernel assigns ports to clients. Such a clash is chance, and no reason to refuse the box.
func cautionsOfClients(b *box.Box) ([]fault.Caution, error) {
	ports, err := PublishedPorts(b.Profile.Network, b.Profile.Network.Ports...)
	if err != nil {
		return nil, err
	}
	holders, err := netsetup.Listeners(ports)
	if err != nil {
		return nil, err
	}
	var who []string
	for _, h := range holders {
		if h.Passing && !b.Holds(h.PID) {
			who = append(who, fmt.Sprintf("%d by %s", h.Number, h.By))
		}
	}
	if len(who) == 0 {
		return nil, nil
	}
	return []fault.Caution{{
		Text: fmt.Sprintf("udp ports that it publishes are in use on the host: %s", say.Listed(who, 3)),
		Hint: "where that is no client but a server, publish other ports; sysctl net.ipv4.ip_local_reserved_ports keeps clients off them"}}, nil
}
