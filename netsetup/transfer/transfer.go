package transfer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netns"
)

// Network is one end of a transfer.
type Network struct {
	NS     netns.NsHandle
	Device string // where the packets of the other end come in
}

// Result is what became of a transfer.
type Result struct {
	Opened bool       // the connection was opened
	From   netip.Addr // where the far end saw the connection come from
	Err    error      // why bytes did not arrive, or not as they were sent
	Out    Tally      // packets at their arrival at the far end
	In     Tally      // packets at their arrival at the near end
	Noted  bool       // without a connection: datagrams arrive at the far end without a checksum, and do not with theirs left to devices
}

// Try opens a connection from the near network to an address of the far network, sends size bytes there and as many back.
// The end of ctx ends the transfer. The error says why nothing could be tried; what happens to packets is in the Result.
func Try(ctx context.Context, near, far Network, at netip.Addr, size int) (r Result, err error) {
	listener, err := dump.InNetwork(far.NS, func() (net.Listener, error) {
		return new(net.ListenConfig).Listen(ctx, "tcp4", netip.AddrPortFrom(at, 0).String())
	})
	if err != nil {
		return r, err
	}
	defer listener.Close()
	server, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		return r, err
	}
	out, outErr := far.capture(server)
	in, inErr := near.capture(server)
	defer out.close()
	defer in.close()
	if err := errors.Join(outErr, inErr); err != nil {
		return r, err
	}
	r.exchange(ctx, near, listener, size)
	r.Out, outErr = out.tally()
	r.In, inErr = in.tally()
	if late := net.Error(nil); !r.Opened && errors.As(r.Err, &late) && late.Timeout() { // a refusal is not for want of a checksum
		r.Noted, err = noted(near, far, at)
	}
	return r, errors.Join(err, outErr, inErr)
}

// exchange makes the connection, and moves the bytes.
func (r *Result) exchange(ctx context.Context, near Network, l net.Listener, size int) {
	type seen struct {
		from netip.Addr
		err  error
	}
	far := make(chan seen, 1)
	go func() {
		from, err := serve(ctx, l, size)
		far <- seen{from, err}
	}()
	conn, err := dump.DialIn(ctx, near.NS, "tcp4", l.Addr().String())
	if err != nil {
		l.Close() // nobody comes
		<-far
		r.Err = err
		return
	}
	defer conn.Close()
	r.Opened = true
	err = steps(ctx, conn, sender(there, size), receiver(back, size))
	if err != nil {
		conn.Close() // the far end waits no longer
	}
	s := <-far
	r.From, r.Err = s.from, cmp.Or(s.err, err) // who is left alone knows less
}

// serve accepts a connection, receives what is sent there and sends as much back. The end of ctx ends the wait for a
// client. serve returns the address of the client.
func serve(ctx context.Context, l net.Listener, size int) (netip.Addr, error) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	conn, err := l.Accept()
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}, err
	}
	return from.Addr().Unmap(), steps(ctx, conn, receiver(there, size), sender(back, size))
}

// steps sends and receives in the given order, until a step fails. The deadline of ctx applies to all steps.
func steps(ctx context.Context, conn net.Conn, all ...func(net.Conn) error) error {
	deadline, _ := ctx.Deadline() // the zero time is no deadline
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	for _, step := range all {
		if err := step(conn); err != nil {
			return err
		}
	}
	return nil
}

// The content of each direction is its own.
const there, back = 1, 2

// content returns a reader of size random bytes, the same each time.
func content(direction byte, size int) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{direction}), int64(size))
}

func sender(direction byte, size int) func(net.Conn) error {
	return func(conn net.Conn) error {
		_, err := io.Copy(conn, content(direction, size))
		return err
	}
}

// receiver compares the hash of what comes with the hash of what was sent.
func receiver(direction byte, size int) func(net.Conn) error {
	return func(conn net.Conn) error {
		got, want := sha256.New(), sha256.New()
		if n, err := io.CopyN(got, conn, int64(size)); err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", n, size, err)
		}
		if _, err := io.Copy(want, content(direction, size)); err != nil {
			return err
		}
		if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			return errors.New("the bytes that arrived are not those that were sent")
		}
		return nil
	}
}
