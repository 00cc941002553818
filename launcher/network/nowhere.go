package network

import (
	"fmt"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/launcher/say"
	"boxrun/netsetup"
	"boxrun/profiles/port"
)

// Nowhere returns the reason nobody can reach a port: the host lacks the address the port is published on. The address
// may still come, from a VPN or a DHCP server, and go again. Nowhere returns "" for a port published on an existing
// address.
func Nowhere(b *box.Box, p port.Port) (string, error) {
	n := b.Profile.Network
	switch {
	case p.HostIP.IsValid() && !p.HostIP.IsUnspecified():
		local, err := netsetup.IsLocal(p.HostIP)
		if err != nil || local {
			return "", err
		}
		return fmt.Sprintf("no interface of this host has %s now", p.HostIP), nil
	case n.External == "" || p.HostIP.IsValid():
		return "", nil
	}
	external, err := hintedExternal(n)
	if err != nil {
		return "", err
	}
	for _, inside := range b.Addrs() {
		if external.Addr(inside).IsValid() {
			return "", nil
		}
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

// cautionsOfListeners returns a caution for each server of the host on the box's published ports, as Contested names them,
// and a caution for programs with udp sockets there, in the range from which the kernel assigns ports to clients. Such a
// clash is chance, and no reason to refuse the box.
func cautionsOfListeners(b *box.Box) ([]fault.Caution, error) {
	holders, err := others(b)
	cautions := list.Map(contested(b, holders), func(line string) fault.Caution {
		return fault.Caution{Text: line, Hint: "end that program, or publish another host port"}
	})
	var who []string
	for _, h := range holders {
		if h.Passing {
			who = append(who, fmt.Sprintf("%d by %s", h.Number, h.By))
		}
	}
	if len(who) == 0 {
		return cautions, err
	}
	return append(cautions, fault.Caution{
		Text: fmt.Sprintf("udp ports that it publishes are in use on the host: %s", say.Listed(who, 3)),
		Hint: "where that is no client but a server, publish other ports; sysctl net.ipv4.ip_local_reserved_ports keeps clients off them"}), err
}

// others returns the programs beside the box that listen on the box's published ports.
func others(b *box.Box) ([]netsetup.Holder, error) {
	ports, err := PublishedPorts(b.Profile.Network, b.Profile.Network.Ports...)
	if err != nil {
		return nil, err
	}
	holders, err := netsetup.Listeners(claims(b.Profile.Network, ports))
	return slices.DeleteFunc(holders, func(h netsetup.Holder) bool { return b.Holds(h.PID) }), err
}

// Contested returns a line for each server of the host on a published port of a running box. The server came after the
// box, as a start refuses taken ports, and gets nothing: the rules send all connections to the box.
func Contested(b *box.Box) ([]string, error) {
	holders, err := others(b)
	return contested(b, holders), err
}

// contested is Contested, for the programs that others returns. The ports of a box without a bridge are its own.
func contested(b *box.Box, holders []netsetup.Holder) []string {
	var lines []string
	for _, h := range holders {
		line := fmt.Sprintf("%d/%s: %s on the host listens there too, and gets nothing: packets go to the box", h.Number, h.Proto, h.By)
		if b.Bridged() && !h.Passing && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}
