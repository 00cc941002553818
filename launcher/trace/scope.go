package trace

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
	"boxrun/netsetup"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// scope tells the packets of a trace from all others.
type scope struct {
	box        []netip.Addr // of IPv4, of IPv6 if the box has IPv6, and those on a LAN beside the bridge
	host       []netip.Addr // the host's own addresses
	ports      []port.Port
	inner      []uint16 // ports in the box; none: all
	atHost, in uint32   // numbers of the network namespaces of the host and of the box
}

// newScope returns the scope of a box, or of a port of the box. The port is looked for among the published ports, which may
// lead to several ports in the box, by address, and else is a port in the box.
func newScope(b *box.Box, port uint16) (scope, error) {
	s := scope{box: b.Addrs(), ports: b.Profile.Network.Ports}
	switch { // no rule of boxrun's is about packets on a LAN
	case b.OnBoth():
		s.box = append(s.box, b.LANAddrs()...)
	case b.OnLAN():
		s.box = b.LANAddrs()
	}
	if port != 0 {
		s.ports = nil
	}
	for _, p := range b.Profile.Network.Ports {
		if port != 0 && publishes(p, port) {
			p.Host, p.Container, p.Count = port, p.Container+(port-p.Host), 1
			s.ports, s.inner = append(s.ports, p), append(s.inner, p.Container)
		}
	}
	if port != 0 && len(s.inner) == 0 {
		s.inner = []uint16{port}
	}
	var err error
	if s.host, err = netsetup.AllLocalAddrs(); err != nil {
		return s, fmt.Errorf("listing the addresses of the host: %w", err)
	}
	if s.atHost, err = namespaceOf(os.Getpid()); err != nil {
		return s, err
	}
	s.in, err = namespaceOf(b.Init.PID)
	return s, err
}

// publishes reports whether a host port is among the ports of p.
func publishes(p port.Port, port uint16) bool { return port >= p.Host && port-p.Host < p.Count }

// namespaceOf returns the number of a process's network namespace, as the kernel counts.
func namespaceOf(pid int) (uint32, error) {
	var info syscall.Stat_t
	if err := syscall.Stat(process.ProcFile(pid, "ns/net"), &info); err != nil {
		return 0, fmt.Errorf("looking up the network of process %d: %w", pid, err)
	}
	return uint32(info.Ino), nil
}

// filter returns the filter for the kernel. The filter lets more packets through than covers does.
func (s scope) filter() filter { return filter{s.box, s.ports, len(s.inner) == 0} }

// asked reports whether a port in the box is of the trace.
func (s scope) asked(port uint16) bool { return len(s.inner) == 0 || slices.Contains(s.inner, port) }

// inside reports whether a network namespace is the host's or the box's. Packets of other namespaces may look the same.
// The namespace of a packet without a device is unknown: 0.
func (s scope) inside(namespace uint32) bool {
	return namespace == 0 || namespace == s.atHost || namespace == s.in
}

// covers reports whether a packet is to or from the box, or to a published port and not translated yet, or of a connection
// of the box's.
func (s scope) covers(p packet) bool {
	switch {
	case p.tracked:
		return len(s.inner) == 0
	case slices.Contains(s.box, p.dst.Addr()):
		return s.asked(p.dst.Port())
	case slices.Contains(s.box, p.src.Addr()):
		return s.asked(p.src.Port())
	}
	return s.published(p.dst, p.proto) || s.published(p.src, p.proto)
}

// published reports whether an address and port are a published port on the host.
func (s scope) published(a netip.AddrPort, proto string) bool {
	known := func(box netip.Addr) bool { return box.Is6() == a.Addr().Is6() }
	if !slices.ContainsFunc(s.box, known) || !slices.Contains(s.host, a.Addr()) {
		return false
	}
	n := profiles.Network{Ports: s.ports}
	return slices.ContainsFunc(n.PortsFor(a.Addr()), func(p port.Port) bool {
		return publishesOn(p, a, proto)
	})
}

// publishesOn reports whether a port is published at an address and port of the host.
func publishesOn(p port.Port, a netip.AddrPort, proto string) bool {
	everywhere := !p.HostIP.IsValid() || p.HostIP.IsUnspecified()
	return p.Proto == proto && publishes(p, a.Port()) && (everywhere || p.HostIP == a.Addr())
}
