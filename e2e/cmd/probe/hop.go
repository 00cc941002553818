package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// hop hands frames from each of two devices to the other, as a program between networks does that knows nothing of the
// kernel's notes on packets. Frames larger than the device takes are lost.
func hop(one string, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: probe hop DEVICE DEVICE")
	}
	a, errA := frames(one)
	b, errB := frames(args[0])
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	failed := make(chan error)
	go func() { failed <- hand(a, b) }()
	go func() { failed <- hand(b, a) }()
	fmt.Println("ready")
	return <-failed
}

// frames returns a socket that gets and sends the frames of a device.
func frames(device string) (int, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return 0, err
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return fd, errors.Join(unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
}

func hand(from, to int) error {
	for frame := make([]byte, 1<<17); ; {
		n, err := unix.Read(from, frame)
		if err == nil {
			_, err = unix.Write(to, frame[:n])
		}
		if err != nil && !errors.Is(err, unix.EMSGSIZE) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENETDOWN) {
			return err
		}
	}
}
