package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// tally is what the checksums of captured packets were like.
type tally struct{ whole, unfinished, wrong int }

// checksums captures what comes in by a device for a port, until stdin ends, and prints a line for tcp and one for udp:
// how many packets had their checksum, how many were left to a device, and how many had another.
func checksums(device string, args []string) error {
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	fd, err := listen(device)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		done <- err
	}()
	fmt.Println("ready")
	seen := map[byte]*tally{unix.IPPROTO_TCP: {}, unix.IPPROTO_UDP: {}}
	for ended := false; ; {
		packet, unfinished, err := receive(fd)
		switch {
		case errors.Is(err, unix.EAGAIN) && ended:
			fmt.Printf("tcp %+v\nudp %+v\n", *seen[unix.IPPROTO_TCP], *seen[unix.IPPROTO_UDP])
			return nil
		case errors.Is(err, unix.EAGAIN):
		case err != nil:
			return err
		default:
			count(seen, packet, unfinished, port)
		}
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			ended = true
		default:
		}
	}
}

// listen returns a socket that gets IPv4 packets of a device, each with its status, and waits 300 ms for one.
func listen(device string) (int, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return 0, err
	}
	ip := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(ip))
	if err != nil {
		return 0, err
	}
	wait := unix.NsecToTimeval((300 * time.Millisecond).Nanoseconds())
	return fd, errors.Join(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ip, Ifindex: link.Index}),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
}

// receive returns the next packet, nil for one that goes out, and whether its checksum is yet to be made.
func receive(fd int) (packet []byte, unfinished bool, err error) {
	buf, control := make([]byte, 1<<17), make([]byte, 128)
	n, c, _, from, err := unix.Recvmsg(fd, buf, control, 0)
	if err != nil {
		return nil, false, err
	}
	if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
		return nil, false, nil
	}
	messages, err := unix.ParseSocketControlMessage(control[:c])
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA {
			unfinished = binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_CSUMNOTREADY != 0
		}
	}
	return buf[:n], unfinished, err
}

// count adds a packet for the port to the tallies.
func count(seen map[byte]*tally, data []byte, unfinished bool, port int) {
	packet := gopacket.NewPacket(data, layers.LayerTypeIPv4, gopacket.NoCopy)
	var t *tally
	var to int
	var err error
	switch l := packet.TransportLayer().(type) {
	case *layers.TCP:
		t, to, err = seen[unix.IPPROTO_TCP], int(l.DstPort), l.SetNetworkLayerForChecksum(packet.NetworkLayer())
	case *layers.UDP:
		t, to, err = seen[unix.IPPROTO_UDP], int(l.DstPort), l.SetNetworkLayerForChecksum(packet.NetworkLayer())
	}
	if t == nil || to != port {
		return
	}
	failed, amiss := packet.VerifyChecksums()
	switch {
	case unfinished:
		t.unfinished++
	case err == nil && failed == nil && len(amiss) == 0 && !packet.Metadata().Truncated:
		t.whole++
	default:
		t.wrong++
	}
}

// sink takes what comes to address, by tcp and udp.
func sink(address string) error {
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	defer udp.Close()
	fmt.Println("ready")
	for {
		conn, err := tcp.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
}

// datagram is the size that fits a path with an MTU of 1400.
const datagram = 1400 - 20 - 8

// send sends a number of datagrams to address, and as much by tcp.
func send(address string, args []string) error {
	packets, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for _, network := range []string{"tcp", "udp"} {
		conn, err := net.DialTimeout(network, address, patience)
		if err != nil {
			return err
		}
		for range packets {
			if _, err := conn.Write(make([]byte, datagram)); err != nil && network == "tcp" {
				return err
			}
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
	return nil
}
