package netsetup

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
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

// Listeners returns the sockets of the caller's network namespace on host ports of ports: first tcp then udp, in the
// order of ports and then by number, with the name of the process. A process the caller cannot see is "another
// process".
//
// A Port without HostIP asks for every address, 127.0.0.1 included, so any socket holds the port. A Port with HostIP
// is held by sockets on HostIP or on all addresses. An IPv6 socket on all addresses listens on IPv4 too unless the
// socket is v6-only. Of udp, unconnected sockets count, be they servers or clients.
func Listeners(ports []Port) ([]Holder, error) {
	var hits []hit
	for _, proto := range []string{"tcp", "udp"} {
		asked := slices.DeleteFunc(slices.Clone(ports), func(p Port) bool { return p.Proto != proto })
		if len(asked) == 0 {
			continue
		}
		sockets, err := listening(proto)
		if err != nil {
			return nil, fmt.Errorf("listing listening %s sockets: %w", proto, err)
		}
		hits = append(hits, match(asked, sockets)...)
	}
	if len(hits) == 0 {
		return nil, nil
	}
	first, last, err := clientPorts()
	if err != nil {
		return nil, err
	}
	var sockets []socket
	for _, h := range hits {
		sockets = append(sockets, h.socket)
	}
	owners := socketOwners(sockets)
	var holders []Holder
	for _, h := range hits {
		holder := Holder{Port: h.port, Number: h.socket.port, Proto: h.port.Proto, By: "another process"}
		if pid := owners[h.socket.link()]; pid != 0 {
			holder.By, holder.PID = processName(pid), pid
		}
		// A socket without a process is the kernel's, and a server: WireGuard's.
		if holder.PID != 0 && h.port.Proto == "udp" && h.port.Count > 1 {
			holder.Passing = first <= h.socket.port && h.socket.port <= last
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
	socket socket
}

// match pairs each port with the sockets on the port.
func match(ports []Port, sockets []socket) []hit {
	var hits []hit
	for _, p := range ports {
		for _, s := range sockets {
			number := int(s.port) - int(p.Host)
			if number >= 0 && number < int(p.Count) && s.serves(p.HostIP) {
				hits = append(hits, hit{port: p, socket: s})
			}
		}
	}
	return hits
}

// socket is a socket that waits for packets of anyone.
type socket struct {
	proto  string
	addr   netip.Addr
	port   uint16
	v6only bool
	inode  uint32
}

// link is what a process's /proc/PID/fd has for the socket.
func (s socket) link() string { return fmt.Sprintf("socket:[%d]", s.inode) }

// serves reports whether the socket gets what is sent to an IPv4 address of the host; the zero Addr stands for any.
func (s socket) serves(addr netip.Addr) bool {
	switch {
	case s.addr.Is6() && s.addr.IsUnspecified():
		return !s.v6only
	case s.addr.Is6():
		return false
	}
	return !addr.IsValid() || s.addr.IsUnspecified() || s.addr == addr
}

// TCP states of the kernel. Udp sockets share them: an unconnected udp socket is "closed".
const (
	stateClose  = 7
	stateListen = 10
)

// listening asks the kernel for the sockets of a protocol that wait for anyone, and for no others: a busy host has a
// hundred thousand connections.
func listening(proto string) ([]socket, error) {
	number, state := byte(unix.IPPROTO_TCP), stateListen
	if proto == "udp" {
		number, state = unix.IPPROTO_UDP, stateClose
	}
	var sockets []socket
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		list, err := dump.Retry(func() ([][]byte, error) {
			req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
			req.AddData(diagRequest{family: family, protocol: number, states: 1 << state})
			return req.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
		})
		if err != nil {
			return nil, err
		}
		for _, message := range list {
			s, err := parseSocket(message)
			if err != nil {
				return nil, err
			}
			s.proto = proto
			sockets = append(sockets, s)
		}
	}
	slices.SortFunc(sockets, func(a, b socket) int { // the kernel's order is the order of a hash
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.inode, b.inode))
	})
	return sockets, nil
}

// diagRequest is struct inet_diag_req_v2 of linux/inet_diag.h. The library's own requests ask for every state and drop
// whether a socket is v6-only.
type diagRequest struct {
	family, protocol byte
	states           uint32
}

func (diagRequest) Len() int { return 56 }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, r.Len())
	b[0], b[1] = r.family, r.protocol
	binary.NativeEndian.PutUint32(b[4:], r.states)
	return b
}

// diagMessage is the size of struct inet_diag_msg of linux/inet_diag.h. Attributes follow the struct.
const diagMessage = 72

// parseSocket reads an inet_diag_msg: family, state, two bytes, then local and remote port, local and remote address.
func parseSocket(b []byte) (socket, error) {
	if len(b) < diagMessage {
		return socket{}, fmt.Errorf("got %d bytes of a socket, want %d", len(b), diagMessage)
	}
	s := socket{port: binary.BigEndian.Uint16(b[4:]), inode: binary.NativeEndian.Uint32(b[68:])}
	if b[0] == unix.AF_INET {
		s.addr = netip.AddrFrom4([4]byte(b[8:12]))
		return s, nil
	}
	s.addr = netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	attrs, err := nl.ParseRouteAttr(b[diagMessage:])
	if err != nil {
		return socket{}, fmt.Errorf("reading a socket's attributes: %w", err)
	}
	for _, a := range attrs {
		if a.Attr.Type == netlink.INET_DIAG_SKV6ONLY && len(a.Value) > 0 {
			s.v6only = a.Value[0] != 0
		}
	}
	return s, nil
}

// socketOwners finds the process of each socket, by the socket's link in /proc; 0 for none. Of several processes, such
// as a server's workers, the process with the lowest pid counts, but not systemd, as systemd keeps the sockets passed
// on to services. What cannot be read belongs to processes that are gone or hidden from the caller.
func socketOwners(sockets []socket) map[string]int {
	owners := map[string]int{}
	for _, s := range sockets {
		owners[s.link()] = 0
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		target, _ := os.Readlink(link)
		if owner, ok := owners[target]; ok {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			if owner <= 1 || 1 < pid && pid < owner {
				owners[target] = pid
			}
		}
	}
	return owners
}

// processName is for people.
func processName(pid int) string {
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return fmt.Sprintf("a process that has just ended (pid %d)", pid)
	}
	return fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), pid)
}
