package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/guest"
	"boxrun/launcher/network"
	"boxrun/launcher/say"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/rules"
	"boxrun/profiles"
)

// boxLooks returns the looks for a box. They follow a packet into the box, port by port and in the order of the
// packet's way, and then a packet out of the box. A box that does not run has only the look at its state. A box
// without a bridge has no rules, so only its listening ports are looked at.
func (d *doctor) boxLooks(b *box.Box) []look {
	looks := []look{one(b.Name, "state", func(ctx context.Context) Check { return stateCheck(ctx, b) })}
	if !b.Alive() {
		return looks
	}
	if !b.Bridged() {
		for _, p := range b.Profile.Network.Ports {
			looks = append(looks, one(b.Name, b.ShownPort(p)+" listens", func(context.Context) Check { return listens(b, p) }))
		}
		return looks
	}
	looks = append(looks,
		one(b.Name, "address", func(context.Context) Check { return addressCheck(b) }),
		look{b.Name, "rules", func(context.Context) []Check { return rulesChecks(b) }},
		one(b.Name, "names of others", func(context.Context) Check { return d.hostsCheck(b) }))
	for _, p := range b.Profile.Network.Ports {
		name := portName(p)
		looks = append(looks,
			one(b.Name, name+" listens", func(context.Context) Check { return listens(b, p) }),
			one(b.Name, name+" dnat", func(context.Context) Check { return d.translation(b, p) }),
			one(b.Name, name+" forward", func(context.Context) Check { return d.inwards(b, p) }),
			one(b.Name, name+" connection", func(ctx context.Context) Check { return d.connection(ctx, b, p) }))
	}
	return append(looks, d.outLooks(b)...)
}

// portName returns a port as seen from outside: "8080/tcp", or "8080-8089/tcp" for a range.
func portName(p profiles.Port) string {
	if p.Count > 1 {
		return fmt.Sprintf("%d-%d/%s", p.Host, p.Host+p.Count-1, p.Proto)
	}
	return fmt.Sprintf("%d/%s", p.Host, p.Proto)
}

// stateCheck says whether the box runs, and reports the state of the systemd in the box.
func stateCheck(ctx context.Context, b *box.Box) Check {
	if b.State() == box.Crashed {
		return fail("it does not run, or was left half started or half stopped", "boxrun up "+b.Name, box.Crashed)
	}
	if !b.Alive() {
		return warn("another boxrun works on it", "boxrun status "+b.Name, "%s", b.State())
	}
	state, failed, err := guest.Inside(ctx, b.Init.PID)
	switch {
	case err != nil:
		return warn("it cannot say how it is", "boxrun restart "+b.Name, "running, but %v", err)
	case len(failed) > 0:
		return warn("a service that failed answers nobody", fmt.Sprintf("boxrun logs %s -u %s", b.Name, failed[0]), "%s, failed: %s", state, strings.Join(failed, ", "))
	case state == "none":
		return pass("running, without a systemd")
	case state != "running":
		return warn("services may not have started yet", "boxrun status "+b.Name, "its systemd is %s", state)
	}
	return pass("running")
}

// addressCheck says whether the box has the address to which its rules send packets.
func addressCheck(b *box.Box) Check {
	moved, err := network.Moved(b)
	switch {
	case errors.Is(err, netsetup.ErrNoAddress):
		return fail("nobody reaches it", "boxrun restart "+b.Name, "the box has lost its address: %v", err)
	case err != nil:
		return broken(err)
	case moved != "":
		return fail("what is published goes to an address the box does not have", network.MendCommand, "%s", moved)
	}
	return pass("%s on %s, as its rules have it", b.Addr, b.Profile.Network.Bridge)
}

// rulesChecks compares the rules and devices made for the box with its plan.
func rulesChecks(b *box.Box) []Check {
	k, err := network.OpenKernel()
	if err != nil {
		return []Check{broken(err)}
	}
	defer k.Close()
	plans := []netsetup.Plan{b.Ports}
	var checks []Check
	for _, t := range []topic{
		{"rules", "in place", "they let in what is published, and nothing else", func(p netsetup.Plan) netsetup.Plan {
			return netsetup.Plan{Owner: p.Owner, Chains: p.Chains, Rules: p.Rules}
		}},
		{"offload", "off on its veth", "some network cards drop forwarded packets whose checksums were left to them: connections open and then hang",
			func(p netsetup.Plan) netsetup.Plan { return netsetup.Plan{Features: p.Features} }},
		{"hairpin", "on", "a box does not reach its own published ports without it",
			func(p netsetup.Plan) netsetup.Plan { return netsetup.Plan{Hairpin: p.Hairpin} }},
	} {
		checks = append(checks, t.check(k, plans))
	}
	return checks
}

// hostsCheck says whether the hosts file of the box names the other boxes on its bridge. The check is skipped if the
// state of any box cannot be read: that box may be on the bridge.
func (d *doctor) hostsCheck(b *box.Box) Check {
	line, err := conf.NamesDrift(d.l.Store, b, d.boxes)
	switch {
	case len(d.unread) > 0:
		return skip("there is a box that cannot be read: %s", d.unread[0])
	case err != nil:
		return broken(err)
	case line != "":
		return fail("boxes of one bridge find each other by name", network.MendCommand, "%s", line)
	}
	return pass("as the boxes are")
}

// listens says which program in the box listens on the port.
func listens(b *box.Box, p profiles.Port) Check {
	if nowhere, err := network.Nowhere(b, p); !b.Bridged() && (nowhere != "" || err != nil) {
		return unreachable(nowhere, err)
	}
	servers, err := netsetup.Servers(b.Init.PID, []netsetup.Port{netsetup.Port(p)})
	if err != nil {
		return broken(err)
	}
	addr := b.Addr
	if !b.Bridged() {
		addr = netip.IPv4Unspecified()
	}
	return listening(b.Name, p, addr, servers)
}

// listening judges servers, the programs that listen on the port p in the box. A program counts if it serves addr;
// for the unspecified addr any program counts. Of a range of ports a single answered port is enough.
func listening(box string, p profiles.Port, addr netip.Addr, servers []netsetup.Server) Check {
	const why = "a packet that gets into the box is refused there"
	var reached, by []string
	var elsewhere *netsetup.Server
	for i, s := range servers {
		if addr.IsUnspecified() || s.Serves(addr) {
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
		return fail(why, fmt.Sprintf("make it listen on 0.0.0.0: \"boxrun shell %s\", and its configuration", box),
			"%s listens on %s alone, not on the box's address", elsewhere.By, elsewhere.Addr)
	case p.Count > 1:
		return warn(why, "boxrun status "+box, "nothing listens on any of %d-%d/%s in the box", p.Container, p.Container+p.Count-1, p.Proto)
	}
	return fail(why, "boxrun status "+box, "nothing listens on %d/%s in the box", p.Container, p.Proto)
}

// entrance is the way of a client from outside to a port.
type entrance struct {
	device string
	from   netip.Addr     // a client that allow_from admits
	to     netip.AddrPort // address and port on the host
}

// entranceOf returns the way of a client to the port p. The interface is network.external, or the interface of the
// host's default route. The address is the port's own in the profile, else the first address of the interface, else
// the gateway of the bridge. The client is the first in allow_from, else an address of the world outside.
func (d *doctor) entranceOf(b *box.Box, p profiles.Port) (entrance, error) {
	n := b.Profile.Network
	e, err := d.external()
	if n.External != "" {
		e, err = netsetup.ExternalNamed(n.External)
	}
	if err != nil {
		return entrance{}, err
	}
	way := entrance{device: e.Name, from: somewhere()}
	addr := p.HostIP
	if !addr.IsValid() && len(e.Addrs) > 0 {
		addr = e.Addrs[0]
	}
	if !addr.IsValid() { // the host has no network
		addr = network.Of(d.l.Store, b).Gateway()
		way.device = "eth0"
	}
	if len(n.AllowFrom) > 0 {
		way.from = n.AllowFrom[0].Addr()
	}
	way.to = netip.AddrPortFrom(addr, p.Host)
	return way, nil
}

// packet returns the first packet of a connection through the entrance.
func (e entrance) packet(p profiles.Port) firewall.Packet {
	return firewall.Packet{In: e.device, Src: e.from, Dst: e.to.Addr(), DPort: p.Host, Proto: p.Proto, ToHost: true}
}

// translation says which rule sends packets for the port, and to which address.
func (d *doctor) translation(b *box.Box, p profiles.Port) Check {
	f, err := d.firewall()
	if err != nil {
		return broken(err)
	}
	way, err := d.entranceOf(b, p)
	if err != nil {
		return broken(err)
	}
	hook := "prerouting"
	if p.HostIP.IsLoopback() {
		hook = "output"
	}
	const why = "connections to the port do not get to the box"
	if nowhere, err := network.Nowhere(b, p); nowhere != "" || err != nil {
		return unreachable(nowhere, err)
	}
	o := f.Translation(hook, way.packet(p))
	to, _, _ := strings.Cut(o.To, ":")
	switch {
	case o.Rule == "":
		return fail(why, network.MendCommand, "no rule sends the port to the box")
	case !rules.Ours(o.Rule):
		return fail(why, network.Removal(o.Rule), "shadowed by a rule that comes before boxrun's: %s", firewall.RuleText(o.Rule))
	case to != b.Addr.String():
		return fail(why, network.MendCommand, "sent to %s, and the box is at %s", o.To, b.Addr)
	case len(o.Rivals) > 0:
		return warn("of two rules at one place in the kernel the one that was made last decides", network.Removal(o.Rivals[0]),
			"to %s, unless this rule of others is asked first: %s", o.To, firewall.RuleText(o.Rivals[0]))
	}
	return contested(b, p, o)
}

// unreachable judges a port without any address on the host. nowhere says why.
func unreachable(nowhere string, err error) Check {
	if err != nil {
		return broken(err)
	}
	return fail("clients have no address to connect to", network.NowhereHint, "%s", nowhere)
}

// contested says whether another program on the host listens on the same host port. Such a program gets no
// connections: the rule sends them all to the box.
func contested(b *box.Box, p profiles.Port, o firewall.Outcome) Check {
	ports, err := network.PublishedPorts(b.Profile.Network, p)
	if err != nil {
		return broken(err)
	}
	holders, err := netsetup.Listeners(ports)
	if err != nil {
		return broken(err)
	}
	holders = slices.DeleteFunc(holders, func(h netsetup.Holder) bool { return h.Passing })
	if len(holders) > 0 {
		return warn("it gets none of the connections: they go to the box", "publish another host port, or end it",
			"to %s, but %s listens on host port %d too", o.To, holders[0].By, holders[0].Number)
	}
	return pass("to %s", o.To)
}

// inwards walks the first packet of a connection to the box through the rules for forwarded packets, and then the
// answer back.
func (d *doctor) inwards(b *box.Box, p profiles.Port) Check {
	if p.HostIP.IsLoopback() {
		return skip("published on 127.0.0.1: the host's own packets are not forwarded")
	}
	if nowhere, err := network.Nowhere(b, p); nowhere != "" || err != nil {
		return skip("there is no address to come in by")
	}
	f, err := d.firewall()
	if err != nil {
		return broken(err)
	}
	way, err := d.entranceOf(b, p)
	if err != nil {
		return broken(err)
	}
	bridge := b.Profile.Network.Bridge
	first := way.packet(p)
	first.Out = bridge
	in := f.Forwarded(first, netip.AddrPortFrom(b.Addr, p.Container))
	if in.Dropped {
		return dropped(in, bridge)
	}
	back := f.Forwarded(firewall.Packet{
		In: bridge, Out: way.device, Src: b.Addr, Dst: way.from, Proto: p.Proto, SPort: p.Container, DPort: 40000,
		Reply: true, Translated: true,
	}, noTranslation())
	if back.Dropped {
		return dropped(back, bridge)
	}
	if unsure := slices.Concat(in.Unsure, back.Unsure); len(unsure) > 0 {
		return warn("they look at what boxrun does not know, and may drop it", "", "accepted, unless by: %s", say.Listed(unsure, 3))
	}
	return pass("accepted both ways")
}

// connectTimeout limits the time of a connection made by Doctor. Such connections do not leave the host.
const connectTimeout = 2 * time.Second

// connection opens a real connection to the port. The client is in the network made by openOutside, which stands for
// clients outside. A port on 127.0.0.1 admits only the host, so there the host is the client. Where allow_from
// excludes the client, the connection must fail.
func (d *doctor) connection(ctx context.Context, b *box.Box, p profiles.Port) Check {
	way, err := d.entranceOf(b, p)
	if err != nil {
		return broken(err)
	}
	port, err := openPort(b, p)
	switch {
	case err != nil:
		return broken(err)
	case port == 0:
		return skip("nothing listens in the box")
	}
	if nowhere, err := network.Nowhere(b, p); nowhere != "" || err != nil {
		return skip("there is no address to connect to")
	}
	to := netip.AddrPortFrom(way.to.Addr(), port).String()
	if p.HostIP.IsLoopback() {
		return tried(p.Proto, "from the host to "+to, try(ctx, p.Proto, new(net.Dialer).DialContext, to))
	}
	if d.outsider == nil {
		return skip("no client network: %s", d.noOutside)
	}
	allow := b.Profile.Network.AllowFrom
	if len(allow) == 0 || slices.ContainsFunc(allow, func(a netip.Prefix) bool { return a.Contains(d.outsider.Addr) }) {
		return tried(p.Proto, "from outside to "+to, try(ctx, p.Proto, d.outsider.Dial, to))
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second/2)
	defer cancel()
	if err := try(ctx, p.Proto, d.outsider.Dial, to); err == nil && p.Proto == "tcp" {
		return fail("allow_from is to keep others out", network.MendCommand, "a client that allow_from does not name got through to %s", to)
	}
	return pass("a client that allow_from does not name is kept out")
}

// openPort returns a host port of the range p with a server in the box behind it, 0 where nothing listens.
func openPort(b *box.Box, p profiles.Port) (uint16, error) {
	servers, err := netsetup.Servers(b.Init.PID, []netsetup.Port{netsetup.Port(p)})
	for _, s := range servers {
		if s.Serves(b.Addr) {
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
	conn, err := dial(ctx, proto+"4", to)
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

// seeAbove is the fix for a connection that failed.
const seeAbove = "see the checks of this port above"

// seeElsewhere is the fix where the other checks of the port found nothing.
const seeElsewhere = "none of the checks of this port tells why: see what takes the packets with \"nft monitor trace\" or tcpdump"

// pointed replaces the fix seeAbove by seeElsewhere for connections that no other check of the same port explains.
func pointed(checks []Check) []Check {
	for i, c := range checks {
		port, isConnection := strings.CutSuffix(c.Name, " connection")
		explained := slices.ContainsFunc(checks, func(o Check) bool {
			return o.Area == c.Area && o.Name != c.Name && strings.HasPrefix(o.Name, port+" ") && (o.Status == Fail || o.Status == Warn)
		})
		if isConnection && c.Fix == seeAbove && !explained {
			checks[i].Fix = seeElsewhere
		}
	}
	return checks
}

// tried judges an attempt to connect. way says from where and to where.
func tried(proto, way string, err error) Check {
	switch {
	case err == nil && proto == "udp":
		return pass("a packet %s was not refused", way)
	case err == nil:
		return pass("opened %s", way)
	case errors.Is(err, unix.ECONNREFUSED):
		return fail("clients see \"connection refused\"", seeAbove, "refused %s", way)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, unix.ETIMEDOUT):
		return fail("clients hang and then time out: some rule drops the packets", seeAbove, "no answer %s", way)
	}
	return fail("clients do not get through", seeAbove, "%s: %v", way, err)
}

// hintCloud adds a check for each box with ports and without failures, if the host is a machine in a cloud. A cloud
// filters packets before they reach the machine, and no look from inside the machine can see this.
func (d *doctor) hintCloud(checks []Check, boxes []*box.Box) []Check {
	cloud := d.cloud()
	if cloud == "" {
		return checks
	}
	for _, b := range boxes {
		own := slices.DeleteFunc(slices.Clone(checks), func(c Check) bool { return c.Area != b.Name })
		if len(b.Profile.Network.Ports) > 0 && !Failed(own) {
			c := d.securityGroup(cloud, b)
			c.Area, c.Name = b.Name, "cloud"
			checks = append(checks, c)
		}
	}
	return checks
}

// cloud returns the name of the cloud the host is in, or "".
func (d *doctor) cloud() string {
	for _, file := range []string{"sys_vendor", "product_version", "product_name", "bios_vendor", "chassis_asset_tag"} {
		text, err := d.line("sys/class/dmi/id/" + file)
		if err != nil {
			continue
		}
		for _, c := range []struct{ mark, name string }{
			{"amazon", "Amazon EC2"}, {"google", "Google Cloud"}, {"openstack", "OpenStack"},
			{"7783-7084-3265-9085-8269-3286-77", "Microsoft Azure"},
		} {
			if strings.Contains(strings.ToLower(text), c.mark) {
				return c.name
			}
		}
	}
	return ""
}

// securityGroup warns of ports without any connection so far. The box has passed all checks on this host.
func (d *doctor) securityGroup(cloud string, b *box.Box) Check {
	f, err := d.firewall()
	if err != nil {
		return broken(err)
	}
	counts := f.Translated(b.Name)
	var silent []string
	for _, p := range b.Profile.Network.Ports {
		if counts[p.Host] == 0 && !p.HostIP.IsLoopback() {
			silent = append(silent, portName(p))
		}
	}
	if len(silent) == 0 {
		return pass("%s lets connections in", cloud)
	}
	return warn("this host is right; where clients time out all the same, their packets are dropped before they come in",
		fmt.Sprintf("open %s in the security group of this machine", strings.Join(silent, ", ")),
		"on %s, and no connection to %s has arrived yet", cloud, strings.Join(silent, ", "))
}

// notThere says whether err means that a file does not exist, in the box or on the host.
func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOENT) }
