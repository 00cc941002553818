package transfer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"boxrun/netsetup/dump"

	"golang.org/x/sys/unix"
)

// Tally counts packets by their checksums: right, yet to be made by a device by the kernel's note, and neither. Receivers
// drop the last.
type Tally struct{ Whole, Unfinished, Wrong int }

// Packets is the number of all.
func (t Tally) Packets() int { return t.Whole + t.Unfinished + t.Wrong }

// capture is a socket with copies of packets until they are counted; nil captures nothing.
type capture struct{ fd int }

// held is the number of bytes of packets in a capture at most: some times the bytes of a transfer, as the kernel counts
// what surrounds a packet too.
const held = 16 << 20

// capture opens a capture of the packets of IPv4 and TCP from or to a server.
func (n Network) capture(server netip.AddrPort) (*capture, error) {
	return dump.InNetwork(n.NS, func() (*capture, error) {
		link, err := net.InterfaceByName(n.Device)
		if err != nil {
			return nil, fmt.Errorf("looking up %s: %w", n.Device, err)
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // of no protocol yet: nothing comes
		if err != nil {
			return nil, fmt.Errorf("opening a capture: %w", err)
		}
		c := &capture{fd}
		// Of all protocols: a socket of IP alone sees nothing of what a device's own filters drop (tc, nft of the family netdev).
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		filter := ofServer(server)
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
			makeRoom(fd),
			unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
		if err != nil {
			c.close()
			return nil, fmt.Errorf("capturing on %s: %w", n.Device, err)
		}
		return c, nil
	})
}

// makeRoom has the capture hold much. Root of a user namespace has to do with what the kernel allows: what finds no room
// is not counted.
func makeRoom(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, held)
	if errors.Is(err, unix.EPERM) {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, held)
	}
	return err
}

// ofServer is a program of classic BPF that lets incoming packets of IPv4 and TCP pass, from or to a server. The packets
// begin with their IP header.
func ofServer(server netip.AddrPort) []unix.SockFilter {
	const (
		byteAt, wordAt   = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		shortAt, shortOf = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_H | unix.BPF_IND
		protocol, kind   = 1<<32 - 0x1000, 1<<32 - 0x1000 + 4 // SKF_AD_PROTOCOL and SKF_AD_PKTTYPE of linux/filter.h
		equal, give      = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
		headOf           = unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH
	)
	ip := server.Addr().As4()
	addr, port := binary.BigEndian.Uint32(ip[:]), uint32(server.Port())
	return []unix.SockFilter{
		{Code: byteAt, K: kind},
		{Code: equal, K: unix.PACKET_OUTGOING, Jt: 13},
		{Code: shortAt, K: protocol},
		{Code: equal, K: unix.ETH_P_IP, Jf: 11},
		{Code: byteAt, K: 9},
		{Code: equal, K: unix.IPPROTO_TCP, Jf: 9},
		{Code: headOf, K: 0},
		{Code: wordAt, K: 12}, // from
		{Code: equal, K: addr, Jf: 2},
		{Code: shortOf, K: 0},
		{Code: equal, K: port, Jt: 5, Jf: 4},
		{Code: wordAt, K: 16}, // to
		{Code: equal, K: addr, Jf: 2},
		{Code: shortOf, K: 2},
		{Code: equal, K: port, Jt: 1},
		{Code: give, K: 0},
		{Code: give, K: 1 << 17},
	}
}

// close closes the capture, if there is one.
func (c *capture) close() {
	if c != nil {
		_ = unix.Close(c.fd)
	}
}

// tally counts what has come in. A packet is in the capture before the receiver learns of the packet, so after a
// transfer there is nothing to wait for.
func (c *capture) tally() (t Tally, err error) {
	for buf := make([]byte, 1<<17); ; {
		packet, unfinished, err := c.next(buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return t, nil
		case err != nil:
			return t, fmt.Errorf("reading captured packets: %w", err)
		case unfinished:
			t.Unfinished++
		case summed(packet):
			t.Whole++
		default:
			t.Wrong++
		}
	}
}

// next returns the next packet, and whether its checksum is yet to be made.
func (c *capture) next(buf []byte) (packet []byte, unfinished bool, err error) {
	var control [128]byte
	n, size, _, _, err := unix.Recvmsg(c.fd, buf, control[:], 0)
	if err != nil {
		return nil, false, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:size])
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA {
			unfinished = binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_CSUMNOTREADY != 0
		}
	}
	return buf[:n], unfinished, err
}

// summed reports whether the checksum of a TCP packet is right (RFC 9293, section 3.1).
func summed(packet []byte) bool {
	if len(packet) < 20 {
		return false
	}
	head, total := int(packet[0]&15)*4, int(binary.BigEndian.Uint16(packet[2:]))
	if total > len(packet) || total < head {
		return false
	}
	sum := add(uint32(unix.IPPROTO_TCP)+uint32(total-head), packet[12:20])
	return add(sum, packet[head:total]) == 0xffff
}

// add adds 16-bit words to a sum as the Internet's checksum does.
func add(sum uint32, data []byte) uint32 {
	for ; len(data) > 1; data = data[2:] {
		sum += uint32(binary.BigEndian.Uint16(data))
		sum = sum>>16 + sum&0xffff
	}
	if len(data) == 1 {
		sum += uint32(data[0]) << 8
		sum = sum>>16 + sum&0xffff
	}
	return sum
}
