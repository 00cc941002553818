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
	"boxrun/netsetup/outsider"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// probe is the connections made by the trace to a published port, one in each family for each address that is published.
type probe struct {
	attempts []attempt
	close    func() error
}

// attempt is a connection of a probe.
type attempt struct {
	from, note string // who connects, and what is to be said of the client
	to         netip.AddrPort
	proto      string
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
}

// probeTimeout limits the time of the attempt. The trace goes on for settleTime after the attempt.
const (
	probeTimeout = 2 * time.Second
	settleTime   = 300 * time.Millisecond
)

// openProbe makes a network to stand for a client outside, and connections to a port, on the addresses of each family that
// the port is published on.
func openProbe(s *box.Store, b *box.Box, ports []port.Port) (*probe, error) {
	const wire = 1500
	o, err := outsider.Open(wire)
	if err != nil {
		return nil, err
	}
	made := &probe{close: o.Close}
	n := profiles.Network{Ports: ports}
	for _, inside := range b.Addrs() {
		for _, p := range n.PortsFor(inside) {
			a, err := newAttempt(s, b, inside, p, o)
			if err != nil {
				return nil, errors.Join(err, o.Close())
			}
			made.attempts = append(made.attempts, a)
		}
	}
	return made, nil
}

// newAttempt returns a connection to a published port of the box at an address of either family. For a port on 127.0.0.1
// the host itself is the client.
func newAttempt(s *box.Store, b *box.Box, inside netip.Addr, p port.Port, o *outsider.Outsider) (attempt, error) {
	way, err := network.EntranceOf(s, b, inside, p)
	client := o.Source(inside)
	a := attempt{from: client.String(), to: way.To, proto: p.Proto, dial: o.Dial}
	allowed := b.Profile.Network.AllowFrom
	switch {
	case p.HostIP.IsLoopback():
		a.from, a.dial = "the host", new(net.Dialer).DialContext
	case len(allowed) > 0 && !slices.ContainsFunc(allowed, func(a netip.Prefix) bool { return a.Contains(client) }):
		a.note = fmt.Sprintf("; a drop is right: network.allow_from does not name %s, the client", client)
	}
	return a, err
}

// probed returns the published ports to connect to: the given one on any address, or the first for 0.
func (s scope) probed(b *box.Box, port uint16) ([]port.Port, error) {
	switch {
	case len(s.ports) > 0 && port == 0:
		return s.ports[:1], nil
	case len(s.ports) > 0:
		return s.ports, nil
	case port == 0:
		return nil, fault.Refused("list ports in network.ports of its profile", "%s: publishes no port to connect to", b.Name)
	}
	return nil, fault.Refused("boxrun status "+b.Name, "%s: does not publish port %d", b.Name, port)
}

// prepareProbe opens the probe of a query. For a query without Probe the result does nothing.
func (t *tracer) prepareProbe(s *box.Store, q Query) (*probe, error) {
	if !q.Probe {
		return &probe{close: func() error { return nil }}, nil
	}
	ports, err := t.probed(t.Box, q.Port)
	if err != nil {
		return nil, err
	}
	return openProbe(s, t.Box, ports)
}

// sight makes each connection, waits until what the kernel tells has come, and tells what became of the connection. The
// connection ends behind the wait: a FIN right behind the ACK is at times handled by another processor at once, where
// Linux before 6.19 may find neither the request nor the connection (inet_ehash_insert), and drops one of the two packets.
func (p *probe) sight(ctx context.Context, seen chan<- sighting) {
	for _, a := range p.attempts {
		e, end := a.run(ctx)
		select {
		case <-time.After(settleTime):
		case <-ctx.Done():
		}
		end()
		select {
		case seen <- sighting{event: &e}:
		case <-ctx.Done():
		}
	}
}

// run makes the connection, and returns what became of it, and what ends it.
func (a attempt) run(ctx context.Context) (e Event, end func()) {
	began := time.Now()
	conn, err := a.try(ctx)
	text := outcome(a.proto, err) + a.note
	e = Event{Time: began, Kind: Probed, Packet: fmt.Sprintf("%s > %s %s", a.from, a.to, a.proto), Text: text, Times: 1}
	return e, func() {
		if conn != nil {
			conn.Close()
		}
	}
}

// try opens the connection, nil with an error. For udp try sends an empty packet and waits a little for a refusal.
func (a attempt) try(ctx context.Context) (net.Conn, error) {
	if a.proto == "sctp" {
		return nil, errors.New("boxrun makes no associations of SCTP: have a client of yours connect meanwhile")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := a.dial(ctx, a.proto, a.to.String())
	if err != nil {
		return nil, err
	}
	if a.proto == "tcp" {
		return conn, nil
	}
	if err := refused(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// refused sends an empty packet, and returns the refusal of the packet, nil for none in settleTime.
func refused(conn net.Conn) error {
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
