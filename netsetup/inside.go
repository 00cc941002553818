package netsetup

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// Server is a process that waits for packets on a port inside a network.
type Server struct {
	Addr  netip.Addr // it listens on; unspecified: on all
	Port  uint16
	Proto string
	By    string // "nginx (pid 812)", as the host counts
}

// Serves says whether it gets what is sent to addr.
func (s Server) Serves(addr netip.Addr) bool {
	return s.Addr.IsUnspecified() || s.Addr == addr
}

// Servers gives who listens in the network of a process on one of the inner ports of ports, as the kernel tells it:
// first tcp then udp. An IPv6 socket on all addresses counts as one on 0.0.0.0 unless it is v6-only; other IPv6 sockets
// serve nobody here.
func Servers(pid int, ports []Port) ([]Server, error) {
	var servers []Server
	var hits []hit
	for _, proto := range []string{"tcp", "udp"} {
		var sockets []socket
		err := InNetworkOf(pid, func() (err error) {
			sockets, err = listening(proto)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("listing listening %s sockets of process %d: %w", proto, pid, err)
		}
		for _, s := range sockets {
			if asked(ports, proto, s.port) && (s.addr.Is4() || s.serves(netip.Addr{})) {
				hits = append(hits, hit{port: Port{Proto: proto}, socket: s})
			}
		}
	}
	owners := socketOwners(hits)
	for _, h := range hits {
		s := Server{Addr: h.socket.addr, Port: h.socket.port, Proto: h.port.Proto, By: "a process"}
		if s.Addr.Is6() {
			s.Addr = netip.IPv4Unspecified()
		}
		if owner := owners[h.socket.inode]; owner != 0 {
			s.By = processName(owner)
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// asked says whether an inner port is among ports.
func asked(ports []Port, proto string, number uint16) bool {
	for _, p := range ports {
		if p.Proto == proto && p.Container <= number && number <= p.last(p.Container) {
			return true
		}
	}
	return false
}

// StaleLeases gives the leases that CollectLeases would remove, by path. It changes nothing.
func StaleLeases(dirs ...string) ([]string, error) {
	leases, err := leasesBelow(dirs...)
	if err != nil {
		return nil, err
	}
	var stale []string
	for _, l := range leases {
		dead, err := l.dead()
		if err != nil {
			return stale, err
		}
		if dead {
			stale = append(stale, l.path)
		}
	}
	return stale, nil
}

// Held says whether an address of n is in use: by a lease whose owner lives, or by a neighbour on its bridge.
func Held(n Network, addr netip.Addr) (bool, error) {
	near, err := neighbours(n)
	if err != nil {
		return false, err
	}
	if _, ok := near[addr]; ok {
		return true, nil
	}
	leases, err := leasesBelow(filepath.Join(n.Dir, "leases"), cniLeases)
	for _, l := range leases {
		if dead, err := l.dead(); l.addr == addr && !dead && err == nil {
			return true, nil
		}
	}
	return false, err
}

// ModuleOnDisk says whether the running kernel has a module of that name to be loaded.
func ModuleOnDisk(name string) (bool, error) { return onDisk(name) }
