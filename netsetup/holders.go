package netsetup

import (
	"fmt"
	"slices"

	"boxrun/netsetup/sockets"
)

// Holder is who has a host port of a Port.
type Holder struct {
	Port   Port   // who asks for the host port
	Number uint16 // the host port, the lowest where a rule takes several
	Proto  string
	By     string // "nginx (pid 812)", or "a DNAT rule of Docker: -A DOCKER ..."
	PID    int    // 0 where the holder is no process, or an unknown process
	// Passing marks a udp socket at a port from the range for clients: in a second the socket may be gone, and others
	// there.
	Passing bool
}

// Listeners returns the sockets of the caller's network namespace on host ports of ports: first tcp, then udp, then sctp, in the
// order of ports and then by number, with the name of the process. A process the caller cannot see is "another
// process".
//
// A Port without HostIP asks for every address, 127.0.0.1 included, so any socket holds the port. A Port with HostIP
// is held by sockets on HostIP or on all addresses. An IPv6 socket on all addresses listens on IPv4 too unless the
// socket is v6-only. Of udp, unconnected sockets count, be they servers or clients.
func Listeners(ports []Port) ([]Holder, error) {
	var hits []hit
	for _, proto := range []string{"tcp", "udp", "sctp"} {
		asked := slices.DeleteFunc(slices.Clone(ports), func(p Port) bool { return p.Proto != proto })
		if len(asked) == 0 {
			continue
		}
		waiting, err := sockets.Waiting(proto)
		if err != nil {
			return nil, fmt.Errorf("listing listening %s sockets: %w", proto, err)
		}
		hits = append(hits, match(asked, waiting)...)
	}
	if len(hits) == 0 {
		return nil, nil
	}
	first, last, err := clientPorts()
	if err != nil {
		return nil, err
	}
	var found []sockets.Socket
	for _, h := range hits {
		found = append(found, h.socket)
	}
	owners := sockets.Owners(found)
	var holders []Holder
	for _, h := range hits {
		holder := Holder{Port: h.port, Number: h.socket.Port, Proto: h.port.Proto, By: "another process"}
		if pid := owners[h.socket.Link()]; pid != 0 {
			holder.By, holder.PID = sockets.ProcessName(pid), pid
		}
		// A socket without a process is the kernel's, and a server: WireGuard's.
		if holder.PID != 0 && h.port.Proto == "udp" && h.port.Count > 1 {
			holder.Passing = first <= h.socket.Port && h.socket.Port <= last
		}
		if !slices.Contains(holders, holder) { // many processes listen on IPv4 and on IPv6
			holders = append(holders, holder)
		}
	}
	return holders, nil
}

// clientPorts returns the first and the last port of the kernel's range for sockets without a port of their own;
// zeroes where /proc does not tell.
func clientPorts() (first, last uint16, err error) {
	const key = "net.ipv4.ip_local_port_range"
	value, err := readSysctl(key)
	if err != nil {
		return 0, 0, ignoreAbsent(err)
	}
	if _, err := fmt.Sscan(value, &first, &last); err != nil {
		return 0, 0, fmt.Errorf("reading sysctl %s, %q: %w", key, value, err)
	}
	return first, last, nil
}

// hit is a socket on a port asked for.
type hit struct {
	port   Port
	socket sockets.Socket
}

// match pairs each port with the sockets on the port.
func match(ports []Port, waiting []sockets.Socket) []hit {
	var hits []hit
	for _, p := range ports {
		for _, s := range waiting {
			number := int(s.Port) - int(p.Host)
			if number >= 0 && number < int(p.Count) && s.Serves(p.HostIP) {
				hits = append(hits, hit{port: p, socket: s})
			}
		}
	}
	return hits
}
