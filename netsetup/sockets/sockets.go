package sockets

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

// Socket is a socket that waits for packets of anyone.
type Socket struct {
	Proto  string // tcp | udp | sctp
	Addr   netip.Addr
	Port   uint16
	v6only bool
	inode  uint32
}

// Link is what a process's /proc/PID/fd has for the socket.
func (s Socket) Link() string { return fmt.Sprintf("socket:[%d]", s.inode) }

// Serves reports whether the socket gets what is sent to an address of the host. The zero Addr stands for any of IPv4, and
// :: for any of IPv6.
func (s Socket) Serves(addr netip.Addr) bool {
	switch {
	case addr.Is6():
		return s.Addr.Is6() && (s.Addr == addr || s.Addr.IsUnspecified() || addr.IsUnspecified() && !s.Addr.IsLoopback())
	case s.Addr.Is6() && s.Addr.IsUnspecified():
		return !s.v6only
	case s.Addr.Is6():
		return false
	}
	return !addr.IsValid() || s.Addr.IsUnspecified() || s.Addr == addr
}

// TCP states of the kernel. Udp and sctp sockets share them: an unconnected udp socket is "closed".
const (
	stateClose  = 7
	stateListen = 10
)

// Waiting returns the sockets of a protocol, tcp, udp or sctp, that wait for anyone in the caller's network namespace, by
// port. The kernel is asked for no others: a busy host has a hundred thousand connections. A kernel that has not loaded
// sctp has no such sockets, and does not load it to tell.
func Waiting(proto string) ([]Socket, error) {
	number, state := byte(unix.IPPROTO_TCP), stateListen
	switch proto {
	case "udp":
		number, state = unix.IPPROTO_UDP, stateClose
	case "sctp":
		number = unix.IPPROTO_SCTP
	}
	var sockets []Socket
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		list, err := dump.Retry(func() ([][]byte, error) {
			req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
			req.AddData(diagRequest{family: family, protocol: number, states: 1 << state})
			return req.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
		})
		if proto == "sctp" && errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, message := range list {
			s, err := parseSocket(message)
			if err != nil {
				return nil, err
			}
			s.Proto = proto
			sockets = append(sockets, s)
		}
	}
	slices.SortFunc(sockets, func(a, b Socket) int { // the kernel's order is the order of a hash
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.inode, b.inode))
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
func parseSocket(b []byte) (Socket, error) {
	if len(b) < diagMessage {
		return Socket{}, fmt.Errorf("got %d bytes of a socket, want %d", len(b), diagMessage)
	}
	s := Socket{Port: binary.BigEndian.Uint16(b[4:]), inode: binary.NativeEndian.Uint32(b[68:])}
	if b[0] == unix.AF_INET {
		s.Addr = netip.AddrFrom4([4]byte(b[8:12]))
		return s, nil
	}
	s.Addr = netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	attrs, err := nl.ParseRouteAttr(b[diagMessage:])
	if err != nil {
		return Socket{}, fmt.Errorf("reading a socket's attributes: %w", err)
	}
	for _, a := range attrs {
		if a.Attr.Type == netlink.INET_DIAG_SKV6ONLY && len(a.Value) > 0 {
			s.v6only = a.Value[0] != 0
		}
	}
	return s, nil
}

// Owners finds the process of each socket, by the socket's link in /proc; 0 for none. Of several processes, such as a
// server's workers, the process with the lowest pid counts, but not systemd, as systemd keeps the sockets passed on to
// services. What cannot be read belongs to processes that are gone or hidden from the caller.
func Owners(sockets []Socket) map[string]int {
	owners := map[string]int{}
	if len(sockets) == 0 {
		return owners // the look into /proc would be for nothing
	}
	for _, s := range sockets {
		owners[s.Link()] = 0
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

// ProcessName returns the name of a process for people: "nginx (pid 812)".
func ProcessName(pid int) string {
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return fmt.Sprintf("a process that has just ended (pid %d)", pid)
	}
	return fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), pid)
}
