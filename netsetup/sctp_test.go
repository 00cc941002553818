package netsetup

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// Kernels without SCTP have raw sockets, through which these two speak it: as far as the first answer, which is what rules,
// translation and connection tracking look at.

// The chunks that open an association (RFC 9260, section 3.3).
const (
	initChunk    = 1
	initAckChunk = 2
)

// sctpPacket returns a packet with one chunk, which ends with text.
func sctpPacket(from, to uint16, tag uint32, kind byte, text string) []byte {
	b := make([]byte, 12+20, 12+20+len(text)+7)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint32(b[4:], tag)
	b[12] = kind
	binary.BigEndian.PutUint32(b[16:], 0x1234) // the tag of the other's packets
	binary.BigEndian.PutUint32(b[20:], 65536)
	binary.BigEndian.PutUint32(b[24:], 1<<16|1) // streams
	if text != "" {
		b = binary.BigEndian.AppendUint16(b, 0x8000) // a parameter to skip where it is unknown
		b = append(binary.BigEndian.AppendUint16(b, uint16(4+len(text))), text...)
	}
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-12))
	b = append(b, make([]byte, (4-len(b)%4)%4)...)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// answerSCTP answers what opens an association with where it came from.
func answerSCTP(listen string) {
	addr := netip.MustParseAddrPort(listen)
	conn, err := net.ListenPacket("ip4:132", addr.Addr().String())
	exitOn(err)
	go func() {
		buf := make([]byte, 500)
		for {
			n, from, err := conn.ReadFrom(buf)
			exitOn(err)
			if n < 32 || buf[12] != initChunk || binary.BigEndian.Uint16(buf[2:]) != addr.Port() {
				continue
			}
			text := fmt.Sprintf("%v to port %d", from, addr.Port())
			_, _ = conn.WriteTo(sctpPacket(addr.Port(), binary.BigEndian.Uint16(buf), binary.BigEndian.Uint32(buf[16:]), initAckChunk, text), from)
		}
	}()
}

// probeSCTP asks a server and prints its answer. An answer from another address or port is none.
func probeSCTP(to string, limit time.Duration) {
	addr, port := netip.MustParseAddrPort(to), uint16(40000+rand.N(20000))
	conn, err := net.Dial("ip4:132", addr.Addr().String())
	exitOn(err)
	_ = conn.SetDeadline(time.Now().Add(limit))
	_, err = conn.Write(sctpPacket(port, addr.Port(), 0, initChunk, ""))
	buf := make([]byte, 500)
	for err == nil {
		var n int
		n, _, err = conn.(*net.IPConn).ReadFrom(buf) // Read leaves the IP header before the packet
		if n > 36 && binary.BigEndian.Uint16(buf[2:]) == port && binary.BigEndian.Uint16(buf) == addr.Port() {
			end := 12 + int(binary.BigEndian.Uint16(buf[14:]))
			fmt.Println(string(buf[36:min(end, n)]))
			return
		}
	}
	fmt.Println(noAnswer)
}
