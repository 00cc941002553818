package dns

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Dialer opens a connection from a network.
type Dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// askTime limits the time for a name server to answer.
const askTime = 1200 * time.Millisecond

// Ask asks all servers at once, and returns nil if any server answers. Otherwise the error is the first server's.
func Ask(ctx context.Context, dial Dialer, servers []netip.Addr) error {
	errs := make([]error, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		all.Go(func() { errs[i] = ask(ctx, dial, s) })
	}
	all.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	return errs[0]
}

// ask asks a server for the name servers of the root zone, and again after half of the time. Any answer counts, even a
// refusal to tell.
func ask(ctx context.Context, dial Dialer, server netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	to := netip.AddrPortFrom(server, 53).String()
	conn, err := dial(ctx, "udp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(askTime)); err != nil {
		return err
	}
	defer time.AfterFunc(askTime/2, func() { _, _ = conn.Write(question()) }).Stop()
	go hasten(ctx, dial, to, conn)
	if _, err = conn.Write(question()); err == nil {
		err = answered(conn)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer")
	case errors.Is(err, unix.ECONNREFUSED):
		return unix.ECONNREFUSED // without the addresses around it
	}
	return err
}

// refusedTime limits the time for an answer from a machine that refuses TCP on the port.
const refusedTime = 400 * time.Millisecond

// hasten shortens the wait for an answer by UDP where the same address refuses TCP. After the first six packets a kernel
// says no more than once in a second that nothing listens for them (icmp_ratelimit), and of TCP each time.
func hasten(ctx context.Context, dial Dialer, to string, waits net.Conn) {
	conn, err := dial(ctx, "tcp", to)
	if err == nil {
		conn.Close()
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		_ = waits.SetReadDeadline(time.Now().Add(refusedTime)) // fails if the wait has ended
	}
}

// question returns a message of RFC 1035: its number, recursion wanted, one question; the root, NS, IN.
func question() []byte { return []byte{0xb0, 0x58, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1} }

// answered waits for an answer to question.
func answered(conn net.Conn) error {
	for said := make([]byte, 512); ; {
		n, err := conn.Read(said)
		if err != nil {
			return err
		}
		if n > 2 && bytes.Equal(said[:2], question()[:2]) && said[2]&0x80 != 0 {
			return nil
		}
	}
}
