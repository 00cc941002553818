package transfer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"boxrun/netsetup/dump"

	"golang.org/x/sys/unix"
)

// notedTime limits the time for datagrams to arrive.
const notedTime = 200 * time.Millisecond

// noted sends the far network two datagrams: the first without a checksum, as UDP may, the second with a checksum left to
// devices. noted reports whether the first alone arrives.
func noted(near, far Network, at netip.Addr) (bool, error) {
	conn, err := dump.InNetwork(far.NS, func() (net.PacketConn, error) {
		return new(net.ListenConfig).ListenPacket(context.Background(), "udp4", netip.AddrPortFrom(at, 0).String())
	})
	if err != nil {
		return false, err
	}
	defer conn.Close()
	to := conn.LocalAddr().String()
	sent := errors.Join(datagram(near, to, true), datagram(near, to, false))
	if err := errors.Join(sent, conn.SetReadDeadline(time.Now().Add(notedTime))); err != nil {
		return false, err
	}
	var came [2]bool
	for word := make([]byte, 1); !came[0] || !came[1]; {
		if _, _, err := conn.ReadFrom(word); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			return false, err
		}
		came[word[0]&1] = true
	}
	return came[0] && !came[1], nil
}

// datagram sends a datagram of one byte: 0 without a checksum, 1 with a checksum.
func datagram(near Network, to string, bare bool) error {
	_, err := dump.InNetwork(near.NS, func() (struct{}, error) {
		conn, err := net.Dial("udp4", to)
		if err != nil {
			return struct{}{}, err
		}
		defer conn.Close()
		word := []byte{1}
		if bare {
			word[0], err = 0, withoutChecksum(conn)
		}
		if err != nil {
			return struct{}{}, err
		}
		_, err = conn.Write(word)
		return struct{}{}, err
	})
	return err
}

func withoutChecksum(conn net.Conn) error {
	raw, err := conn.(syscall.Conn).SyscallConn() //nolint:forcetypeassert // udp was dialled
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) })
	return errors.Join(err, set)
}
