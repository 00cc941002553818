package netsetup

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/leases"
	"boxrun/netsetup/sockets"
)

// Server is a process with a socket inside a network.
type Server struct {
	sockets.Socket
	By string // "nginx (pid 812)", as the host counts
}

// Servers returns who listens in the network of a process on the inner ports of ports, as the kernel tells: first tcp,
// then udp, then sctp.
func Servers(pid int, ports []Port) ([]Server, error) {
	var servers []Server
	var found []sockets.Socket
	for _, proto := range []string{"tcp", "udp", "sctp"} {
		if !slices.ContainsFunc(ports, func(p Port) bool { return p.Proto == proto }) {
			continue
		}
		var waiting []sockets.Socket
		err := dump.InNetworkOf(pid, func() (err error) {
			waiting, err = sockets.Waiting(proto)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("listing listening %s sockets of process %d: %w", proto, pid, err)
		}
		for _, s := range waiting {
			if asked(ports, proto, s.Port) {
				found = append(found, s)
			}
		}
	}
	owners := sockets.Owners(found)
	for _, s := range found {
		server := Server{s, "a process"}
		if owner := owners[s.Link()]; owner != 0 {
			server.By = sockets.ProcessName(owner)
		}
		servers = append(servers, server)
	}
	return servers, nil
}

// asked reports whether an inner port is among ports.
func asked(ports []Port, proto string, number uint16) bool {
	return slices.ContainsFunc(ports, func(p Port) bool {
		return p.Proto == proto && p.Container <= number && number <= p.last(p.Container)
	})
}

// Held reports whether an address of n is in use: by a lease with a living owner, or by a neighbour on the bridge.
func Held(n Network, addr netip.Addr) (bool, error) {
	near, err := neighbours(n, 0)
	if _, ok := near[addr]; ok || err != nil {
		return ok, err
	}
	found, err := leases.Below(filepath.Join(n.Dir, "leases"), leases.CNI)
	for _, l := range found {
		if dead, err := l.Dead(); l.Addr == addr && !dead && err == nil {
			return true, nil
		}
	}
	return false, err
}
