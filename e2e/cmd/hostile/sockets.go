package main

import (
	"bytes"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// private is the socket of a box's systemd, asked by boxrun.
const private = "/run/systemd/private"

// sockets play a systemd with wrong answers, or none.
func sockets() []behaviour {
	var all []behaviour
	for _, a := range []struct {
		name   string
		answer func(net.Conn)
	}{
		{"closes", func(c net.Conn) { c.Close() }},
		{"endless", func(c net.Conn) { stream(c, bytes.Repeat([]byte{'x'}, 1<<16), 0) }},
		{"lines", func(c net.Conn) { stream(c, []byte("REJECTED EXTERNAL"+nasty+"\r\n"), 0) }},
		{"slow", func(c net.Conn) { stream(c, []byte("O"), time.Second/4) }},
		{"deaf", func(c net.Conn) { authorize(c); stream(c, message(4, 0, nil), time.Millisecond) }},
		{"huge", func(c net.Conn) { authorize(c); stream(c, message(2, 1<<30, nil), time.Second) }},
		{"garbage", func(c net.Conn) { authorize(c); stream(c, bytes.Repeat([]byte{'l', 0xff, 0x80}, 1000), time.Second) }},
		{"errors", func(c net.Conn) { authorize(c); answerAll(c, 3) }},
		{"replies", func(c net.Conn) { authorize(c); answerAll(c, 2) }},
	} {
		all = append(all, behaviour{"systemd=" + a.name, func() error {
			return replace(private, func(path string) error { return serve(path, a.answer) })
		}})
	}
	all = append(all, behaviour{"systemd=full", func() error { return replace(private, full) }})
	return all
}

// serve has answer take each connection to the socket at path.
func serve(path string, answer func(net.Conn)) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c)
		}
	}()
	return nil
}

// full makes a socket at path with a full queue of connections.
func full(path string) error {
	if _, err := net.Listen("unix", path); err != nil {
		return err
	}
	for range 5000 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return nil // the queue is full; the connections stay open with their descriptors
		}
	}
	return nil
}

// stream sends text again and again.
func stream(c net.Conn, text []byte, pause time.Duration) {
	defer c.Close()
	for end := time.Now().Add(lasting); time.Now().Before(end); time.Sleep(pause) {
		if _, err := c.Write(text); err != nil {
			return
		}
	}
}

// authorize plays the side of a server in D-Bus's greeting.
func authorize(c net.Conn) {
	buf := make([]byte, 4096)
	for range 3 {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		said := buf[:n]
		switch {
		case bytes.Contains(said, []byte("BEGIN")):
			return
		case bytes.Contains(said, []byte("NEGOTIATE")):
			_, err = io.WriteString(c, "AGREE_UNIX_FD\r\n")
		default:
			_, err = io.WriteString(c, "OK 0123456789abcdef0123456789abcdef\r\n")
		}
		if err != nil {
			return
		}
	}
}

// answerAll answers each message, as the n-th since the start, with a text of control bytes.
func answerAll(c net.Conn, kind byte) {
	defer c.Close()
	buf := make([]byte, 1<<16)
	for serial := uint32(1); ; serial++ {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write(message(kind, 0, &serial)); err != nil {
			return
		}
	}
}
