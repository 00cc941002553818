package trace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/network"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// probe is a connection made by the trace to a published port.
type probe struct {
	from, note string // who connects, and what is to be said of the client
	to         netip.AddrPort
	proto      string
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
	close      func() error
}

// probeTimeout limits the time of the attempt. The trace goes on for settleTime after the attempt.
const (
	probeTimeout = 2 * time.Second
	settleTime   = 300 * time.Millisecond
)

// openProbe makes a network to stand for a client outside. For a port on 127.0.0.1 the host itself is the client.
func openProbe(s *box.Store, b *box.Box, p profiles.Port) (*probe, error) {
	way, err := network.EntranceOf(s, b, p)
	if err != nil {
		return nil, err
	}
	if p.HostIP.IsLoopback() {
		dial := new(net.Dialer).DialContext
		return &probe{from: "the host", to: way.To, proto: p.Proto, dial: dial, close: func() error { return nil }}, nil
	}
	const wire = 1500
	o, err := netsetup.OpenOutsider(wire)
	if err != nil {
		return nil, err
	}
	made := &probe{from: o.Addr.String(), to: way.To, proto: p.Proto, dial: o.Dial, close: o.Close}
	allowed := b.Profile.Network.AllowFrom
	if len(allowed) > 0 && !slices.ContainsFunc(allowed, func(a netip.Prefix) bool { return a.Contains(o.Addr) }) {
		made.note = fmt.Sprintf("; a drop is right: network.allow_from does not name %s, the client", o.Addr)
	}
	return made, nil
}

// probed returns the published port to connect to: the given one, or the first for 0.
func (s scope) probed(b *box.Box, port uint16) (profiles.Port, error) {
	switch {
	case len(s.ports) > 0:
		return s.ports[0], nil
	case port == 0:
		return profiles.Port{}, fault.Refused("list ports in network.ports of its profile", "%s: publishes no port to connect to", b.Name)
	}
	return profiles.Port{}, fault.Refused("boxrun status "+b.Name, "%s: does not publish port %d", b.Name, port)
}

// prepareProbe opens the probe of a query. For a query without Probe the result does nothing.
func (t *tracer) prepareProbe(s *box.Store, q Query) (*probe, error) {
	if !q.Probe {
		return &probe{close: func() error { return nil }}, nil
	}
	port, err := t.probed(t.Box, q.Port)
	if err != nil {
		return nil, err
	}
	return openProbe(s, t.Box, port)
}

// sight makes the connection, waits until what the kernel tells has come, and tells what became of the connection.
func (p *probe) sight(ctx context.Context, seen chan<- sighting) {
	e := p.run(ctx)
	select {
	case <-time.After(settleTime):
	case <-ctx.Done():
	}
	select {
	case seen <- sighting{event: &e}:
	case <-ctx.Done():
	}
}

// run makes the connection, and returns what became of it.
func (p *probe) run(ctx context.Context) Event {
	began := time.Now()
	text := outcome(p.proto, p.try(ctx)) + p.note
	return Event{Time: began, Kind: Probed, Packet: fmt.Sprintf("%s > %s %s", p.from, p.to, p.proto), Text: text, Times: 1}
}

// try opens and closes the connection. For udp try sends an empty packet and waits a little for a refusal.
func (p *probe) try(ctx context.Context) error {
	if p.proto == "sctp" {
		return errors.New("boxrun makes no associations of SCTP: have a client of yours connect meanwhile")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := p.dial(ctx, p.proto+"4", p.to.String())
	if err != nil || p.proto == "tcp" {
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(nil); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(settleTime)); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) {
		return err
	}
	return nil
}

// outcome says how an attempt ended.
func outcome(proto string, err error) string {
	var waited net.Error // errors.As sets waited
	switch {
	case err == nil && proto == "udp":
		return "the packet was not refused"
	case err == nil:
		return "the connection opened"
	case errors.Is(err, unix.ECONNREFUSED):
		return "the connection was refused"
	case errors.As(err, &waited) && waited.Timeout():
		return "no answer"
	}
	return err.Error()
}
