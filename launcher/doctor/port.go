package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/network"
	"boxrun/launcher/passage"
	"boxrun/launcher/say"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/routing"
	"boxrun/netsetup/rules"
	"boxrun/profiles/port"
)

// portLooks looks at a published port of a box.
type portLooks struct {
	boxLooks
	port.Port
	inside netip.Addr // of the box, in the family in which the port is looked at
}

// list returns the looks at the port, in the order of a packet's way into the box.
func (p portLooks) list() []look {
	name := portName(p.Port)
	if p.inside.Is6() {
		name += " IPv6"
	}
	return []look{
		one(p.Name, name+" listens", p.listens),
		one(p.Name, name+" dnat", p.dnat),
		one(p.Name, name+" forward", p.forward),
		one(p.Name, name+" connection", p.connection),
	}
}

// portName returns a port as seen from outside: "8080/tcp", or "8080-8089/tcp" for a range.
func portName(p port.Port) string {
	if p.Count > 1 {
		return fmt.Sprintf("%d-%d/%s", p.Host, p.Host+p.Count-1, p.Proto)
	}
	return fmt.Sprintf("%d/%s", p.Host, p.Proto)
}

// listens says which program in the box listens on the port.
func (p portLooks) listens(context.Context) Check {
	if c, is := p.unreachable(); is && !p.Bridged() {
		return c
	}
	servers, err := netsetup.Servers(p.Init.PID, []netsetup.Port{netsetup.Port(p.Port)})
	if err != nil {
		return broken(err)
	}
	addr := p.inside
	if !p.Bridged() {
		addr = netip.Addr{}
	}
	return listening(p.Name, p.Port, addr, servers)
}

// listening judges servers, the programs that listen on the port p in the box. A program counts if it serves addr;
// for the zero addr any program of IPv4 counts. Of a range of ports a single answered port is enough.
func listening(box string, p port.Port, addr netip.Addr, servers []netsetup.Server) Check {
	const why = "a packet that gets into the box is refused there"
	var reached, by []string
	var elsewhere *netsetup.Server
	for i, s := range servers {
		if s.Serves(addr) {
			reached = append(reached, fmt.Sprint(s.Port))
			by = append(by, s.By)
		} else {
			elsewhere = &servers[i]
		}
	}
	slices.Sort(reached)
	reached = slices.Compact(reached)
	switch {
	case len(reached) > 0 && p.Count > 1:
		return pass("%d of %d ports answered by %s", len(reached), p.Count, say.Listed(slices.Compact(by), 2))
	case len(reached) > 0:
		return pass("%s on %d/%s", by[0], p.Container, p.Proto)
	case elsewhere != nil:
		return fail(why, fmt.Sprintf("make it listen on %s: \"boxrun shell %s\", and its configuration", routing.Anyone(addr), box),
			"%s listens on %s alone, not on the box's address", elsewhere.By, elsewhere.Addr)
	case p.Count > 1:
		return warn(why, "boxrun logs "+box, "nothing listens on any of %d-%d/%s in the box", p.Container, p.Container+p.Count-1, p.Proto)
	}
	return fail(why, "boxrun logs "+box, "nothing listens on %d/%s in the box", p.Container, p.Proto)
}

// dnat says which rule sends packets for the port, and to which address.
func (p portLooks) dnat(context.Context) Check {
	f, err := p.firewall()
	way, wayErr := p.entrance()
	if err := cmp.Or(err, wayErr); err != nil {
		return broken(err)
	}
	hook := "prerouting"
	if p.HostIP.IsLoopback() {
		hook = "output"
	}
	const why = "connections to the port do not get to the box"
	if c, is := p.unreachable(); is {
		return c
	}
	if rule := passage.Untracked(f, p.Box, p.inside, p.Port, way.Device, way.To.Addr()); rule != "" {
		return fail(why, passage.UntrackedHint(rule), "not translated, as connection tracking is told otherwise: %s", firewall.RuleText(rule))
	}
	o := f.Translation(hook, p.first(way))
	switch {
	case o.Rule == "":
		return fail(why, network.RepairCommand, "no rule sends the port to the box")
	case !rules.Ours(o.Rule):
		return fail(why, passage.RemovalHint(o.Rule), "shadowed by a rule that comes before boxrun's: %s", firewall.RuleText(o.Rule))
	case !leadsTo(o.To, p.inside):
		return fail(why, network.RepairCommand, "sent to %s, and the box is at %s", o.To, p.inside)
	case len(o.Rivals) > 0:
		return warn("of two rules at one place in the kernel the one that was made last decides", passage.RemovalHint(o.Rivals[0]),
			"to %s, unless this rule of others is asked first: %s", o.To, firewall.RuleText(o.Rivals[0]))
	}
	return p.contested(o)
}

// leadsTo reports whether a target of DNAT, with ports or without, is at an address.
func leadsTo(target string, addr netip.Addr) bool {
	at, _, _ := strings.Cut(target, ":")
	if addr.Is6() {
		at, _, _ = strings.Cut(strings.TrimPrefix(target, "["), "]")
	}
	return at == addr.String()
}

// unreachable reports whether the host lacks the address of the port, or cannot tell, with the check that says so.
func (p portLooks) unreachable() (c Check, is bool) {
	nowhere, err := network.Nowhere(p.Box, p.Port)
	if err != nil {
		return broken(err), true
	}
	return fail("clients have no address to connect to", network.NowhereHint, "%s", nowhere), nowhere != ""
}

// contested says whether another program on the host listens on the same host port. Such a program gets no
// connections: the rule sends them all to the box.
func (p portLooks) contested(o firewall.Outcome) Check {
	ports, portsErr := network.PublishedPorts(p.Profile.Network, p.Port)
	holders, err := netsetup.Listeners(ports)
	if err := cmp.Or(portsErr, err); err != nil {
		return broken(err)
	}
	holders = slices.DeleteFunc(holders, func(h netsetup.Holder) bool { return h.Passing })
	if len(holders) > 0 {
		return warn("it gets none of the connections: they go to the box", "publish another host port, or end it",
			"to %s, but %s listens on host port %d too", o.To, holders[0].By, holders[0].Number)
	}
	return pass("to %s", o.To)
}

// forward walks the first packet of a connection to the box through the rules for forwarded packets, and then the
// answer back.
func (p portLooks) forward(context.Context) Check {
	if p.HostIP.IsLoopback() {
		return skip("published on 127.0.0.1: the host's own packets are not forwarded")
	}
	if _, is := p.unreachable(); is {
		return skip("there is no address to come in by")
	}
	f, err := p.firewall()
	way, wayErr := p.entrance()
	if err := cmp.Or(err, wayErr); err != nil {
		return broken(err)
	}
	bridge := p.Profile.Network.Bridge
	first := p.first(way)
	first.Out = bridge
	in := f.Forwarded(first, netip.AddrPortFrom(p.inside, p.Container))
	if in.Dropped {
		return dropped(in, bridge)
	}
	back := f.Forwarded(firewall.Packet{
		In: bridge, Out: way.Device, Src: p.inside, Dst: way.From, Proto: p.Proto, SPort: p.Container, DPort: 40000,
		Reply: true, Translated: true,
	}, netip.AddrPort{})
	if back.Dropped {
		return dropped(back, bridge)
	}
	if unsure := slices.Concat(in.Unsure, back.Unsure); len(unsure) > 0 {
		return warn("they look at what boxrun does not know, and may drop it", "", "accepted, unless by: %s", say.Listed(unsure, 3))
	}
	return pass("accepted both ways")
}

// entrance returns the way of a client to the port.
func (p portLooks) entrance() (network.Entrance, error) {
	return network.EntranceOf(p.store, p.Box, p.inside, p.Port)
}

// first returns the first packet of a connection to the port through the entrance.
func (p portLooks) first(e network.Entrance) firewall.Packet {
	return firewall.Packet{In: e.Device, Src: e.From, Dst: e.To.Addr(), DPort: p.Host, Proto: p.Proto, ToHost: true}
}

// connectTimeout limits the time of a connection made by the doctor. Such connections do not leave the host.
const connectTimeout = 2 * time.Second

// connection opens a real connection to the port. The client is in the network made by openOutside, which stands for
// clients outside. A port on 127.0.0.1 admits only the host, so there the host is the client. Where allow_from
// excludes the client, the connection must fail.
func (p portLooks) connection(ctx context.Context) Check {
	way, wayErr := p.entrance()
	port, err := p.openPort()
	if err := cmp.Or(wayErr, err); err != nil {
		return broken(err)
	}
	if port == 0 {
		return skip("nothing listens in the box")
	}
	if _, is := p.unreachable(); is {
		return skip("there is no address to connect to")
	}
	if p.Proto == "sctp" {
		return skip("no association of SCTP is tried")
	}
	to := netip.AddrPortFrom(way.To.Addr(), port).String()
	if p.HostIP.IsLoopback() {
		return tried(p.Proto, "from the host to "+to, try(ctx, p.Proto, new(net.Dialer).DialContext, to))
	}
	if p.outsider == nil {
		return skip("no client network: %s", p.noOutside)
	}
	allow, client := p.Profile.Network.AllowFrom, p.outsider.Source(p.inside)
	if len(allow) == 0 || slices.ContainsFunc(allow, func(a netip.Prefix) bool { return a.Contains(client) }) {
		return tried(p.Proto, "from outside to "+to, try(ctx, p.Proto, p.outsider.Dial, to))
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second/2)
	defer cancel()
	if err := try(ctx, p.Proto, p.outsider.Dial, to); err == nil && p.Proto == "tcp" {
		return fail("allow_from is to keep others out", network.RepairCommand, "a client that allow_from does not name got through to %s", to)
	}
	return pass("a client that allow_from does not name is kept out")
}

// openPort returns a host port of the range with a server in the box behind it, 0 where nothing listens.
func (p portLooks) openPort() (uint16, error) {
	servers, err := netsetup.Servers(p.Init.PID, []netsetup.Port{netsetup.Port(p.Port)})
	for _, s := range servers {
		if s.Serves(p.inside) {
			return p.Host + (s.Port - p.Container), err
		}
	}
	return 0, err
}

// dialer opens a connection, from the network of the host, a box or the outsider.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// try opens a connection and closes it. For udp try sends an empty packet: success means only that within 200 ms
// nobody refused the packet.
func try(ctx context.Context, proto string, dial dialer, to string) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := dial(ctx, proto, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	if proto == "tcp" {
		return nil
	}
	if _, err := conn.Write(nil); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) {
		return err
	}
	return nil
}

// tried judges an attempt to connect. way says from where and to where.
func tried(proto, way string, err error) Check {
	var late net.Error
	switch {
	case err == nil && proto == "udp":
		return pass("a packet %s was not refused", way)
	case err == nil:
		return pass("opened %s", way)
	case errors.Is(err, unix.ECONNREFUSED):
		return fail("clients see \"connection refused\"", seeAbove, "refused %s", way)
	case errors.As(err, &late) && late.Timeout():
		return fail("clients hang and then time out: some rule drops the packets", seeAbove, "no answer %s", way)
	}
	return fail("clients do not get through", seeAbove, "%s: %v", way, err)
}

// seeAbove is the fix for a connection that failed.
const seeAbove = "see the checks of this port above"

// seeElsewhere returns the fix where the other checks of a port of a box found nothing.
func seeElsewhere(box, port string) string {
	number, _, _ := strings.Cut(port, "/")
	number, _, _ = strings.Cut(number, "-") // of a range
	return fmt.Sprintf("boxrun trace --probe %s %s", box, number)
}

// pointed replaces the fix seeAbove for connections that no other check of the same port explains: by the fix of checksums
// that the box's transfer has shown to be lost, else by seeElsewhere.
func pointed(checks []Check) []Check {
	for i, c := range checks {
		port, isConnection := strings.CutSuffix(c.Name, " connection")
		explained := slices.ContainsFunc(checks, func(o Check) bool {
			return o.Area == c.Area && o.Name != c.Name && strings.HasPrefix(o.Name, port+" ") && (o.Status == Fail || o.Status == Warn)
		})
		if isConnection && c.Fix == seeAbove && !explained {
			checks[i].Fix = cmp.Or(fixOfChecksums(checks, c.Area), seeElsewhere(c.Area, port))
		}
	}
	return checks
}
