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

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/enter"
	"boxrun/launcher/network"
	"boxrun/launcher/say"
	"boxrun/netsetup/dns"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/outsider"
	"boxrun/netsetup/resolvers"
	"boxrun/netsetup/transfer"
	"boxrun/netsetup/wayout"
)

// outward returns the looks at packets from the box: to the gateway, out of the host in bulk, to name servers, and
// ping.
func (b boxLooks) outward() []look {
	return []look{
		one(b.Name, "out gateway", b.gateway),
		one(b.Name, "out transfer", b.transfer),
		one(b.Name, "out names", b.names),
		one(b.Name, "out ping as a user", b.ping),
	}
}

// gateway checks that the default route of the box is its bridge, and that the bridge answers the box.
func (b boxLooks) gateway(ctx context.Context) Check {
	want := network.Of(b.store, b.Box).Gateway()
	have, err := wayout.Gateway(b.Init.PID)
	const why = "nothing leaves the box without a way out"
	switch {
	case err != nil:
		return broken(err)
	case have != want:
		shown := "none"
		if have.IsValid() {
			shown = have.String()
		}
		return fail(why, fmt.Sprintf("boxrun exec %s -- ip route replace default via %s", b.Name, want),
			"the box's default route is %s, and its bridge is %s", shown, want)
	}
	answers, err := wayout.Neighbour(ctx, b.Init.PID, want)
	switch {
	case err != nil:
		return broken(err)
	case !answers:
		return fail(why, network.RepairCommand, "%s, the bridge, does not answer the box (ARP)", want)
	}
	return pass("%s answers", want)
}

// transferSize is the number of bytes sent in each direction: many segments whatever their size, and little for a
// virtual wire.
const transferSize = 256 << 10

// transfer sends transferSize bytes from the box to a client outside whose path has a smaller MTU, and as many back.
// Packets masqueraded wrongly, dropped, too large or without their checksums make the check fail.
func (b boxLooks) transfer(ctx context.Context) Check {
	if b.outsider == nil {
		return skip("no client network: %s", b.noOutside)
	}
	inBox, err := dump.Namespace(b.Init.PID)
	if err != nil {
		return broken(err)
	}
	defer func() { _ = inBox.Close() }()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	near := transfer.Network{NS: inBox, Device: network.BoxDevice}
	far := transfer.Network{NS: b.outsider.NS, Device: outsider.ClientDevice}
	r, err := transfer.Try(ctx, near, far, b.outsider.Addr, transferSize)
	if err != nil {
		return broken(err)
	}
	off, err := b.off()
	if err != nil {
		return broken(err)
	}
	if c, is := b.unsummed(r, off); is {
		return c
	}
	const hangs = "connections open, and hang with the first large packet: TLS, git, apt, database dumps"
	switch {
	case !r.Opened:
		return b.noWayOut(r.Err)
	case r.Err != nil:
		return fail(hangs, network.RepairCommand, "a connection opened and then hung on a path with an MTU of %d: segments are not fitted to the path, or dropped: %v",
			b.outsider.MTU, r.Err)
	case slices.Contains(b.Addrs(), r.From): // others may choose another address of the host than masquerade does
		return fail("answers to what boxes send do not come back", network.RepairCommand, "packets of the box arrive from %s, not from the host's address", r.From)
	}
	return pass("%d KiB out and in again as sent, in %d and %d packets, on a path with an MTU of %d", transferSize>>10, r.Out.Packets(), r.In.Packets(), b.outsider.MTU)
}

// noWayOut explains err, the error of a connection from the box to the outside. If a rule drops the packet, the check
// names the rule.
func (b boxLooks) noWayOut(err error) Check {
	if f, ruleErr := b.firewall(); ruleErr == nil {
		to := firewall.Packet{Out: b.outsider.Device, Dst: b.outsider.Addr, Proto: "tcp", DPort: 443}
		if o := b.leaving(f, to); o.Dropped {
			return dropped(o, b.Profile.Network.Bridge)
		}
	}
	return fail("the box reaches nothing outside", network.RepairCommand, "a connection out of the box was not opened: %v", err)
}

// leaving walks a packet of the box through the rules. The packet has no interface and address to come from yet.
func (b boxLooks) leaving(f firewall.State, packet firewall.Packet) firewall.Outcome {
	packet.In, packet.Src = b.Profile.Network.Bridge, b.Addr
	if packet.Dst.Is6() {
		packet.Src = b.Addr6()
	}
	return f.Forwarded(packet, netip.AddrPort{})
}

// names asks the name servers in the box's resolv.conf, from inside the box.
func (b boxLooks) names(ctx context.Context) Check {
	text, err := enter.ReadInBox(b.Init.PID, "etc/resolv.conf")
	const why = "names do not resolve in the box"
	fix := fixOfNames(b.Box)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(why, fix, "the box has no /etc/resolv.conf")
	}
	if err != nil {
		return broken(err)
	}
	servers := resolvers.NameServers(text)
	known, err := conf.LookResolvers(b.Profile)
	if err != nil {
		return broken(err)
	}
	if len(servers) == 0 {
		return fail(why, fix, "the box's /etc/resolv.conf names no server: %s", known.Lack)
	}
	inBox := func(ctx context.Context, network, address string) (net.Conn, error) {
		return dump.DialFrom(ctx, b.Init.PID, network, address)
	}
	// The host asks the same servers at the same time. Without an answer to the box, the answer to the host shows
	// where the fault is.
	host := make(chan error, 1)
	go func() { host <- dns.Ask(ctx, new(net.Dialer).DialContext, servers) }()
	err = dns.Ask(ctx, inBox, servers)
	if err == nil {
		return pass("%s answers", addrsText(servers))
	}
	return b.silentServers(servers, err, <-host, fix)
}

// fixOfNames returns the fix for a box without name servers that answer. A person cannot write to a built-in profile,
// so there the fix is the host's resolv.conf.
func fixOfNames(b *box.Box) string {
	if strings.HasPrefix(b.Profile.File, "builtin:") {
		return "give the host name servers that answer, in /etc/resolv.conf"
	}
	return "set network.dns in " + b.Profile.File + ", and boxrun restart " + b.Name
}

// silentServers says whether no answer came because of the box's way to the servers, or because of the servers. box
// and host are the errors of asking from each. A server on 127.0.0.1 is inside the box, and is not the host's server
// of this address.
func (b boxLooks) silentServers(servers []netip.Addr, box, host error, fix string) Check {
	const why = "names do not resolve in the box"
	if servers[0].IsLoopback() {
		return fail(why, fix, "the box asks a stub on its own 127.0.0.1 that is not there: %v", box)
	}
	if host != nil {
		return warn(why+"; nor do they on the host by these servers", fix, "no answer from %s to the box, nor to the host: %v", addrsText(servers), box)
	}
	f, err := b.firewall()
	if err != nil {
		return broken(err)
	}
	if o := b.leaving(f, firewall.Packet{Out: b.device(), Dst: servers[0], Proto: "udp", DPort: 53}); o.Dropped {
		return dropped(o, b.Profile.Network.Bridge)
	}
	return fail(why, network.RepairCommand, "%s answers the host, and not the box: %v", addrsText(servers), box)
}

// ping runs the box's ping as the user nobody. The target is the box itself, because everything that can forbid a
// user to ping is in the box.
func (b boxLooks) ping(ctx context.Context) Check {
	code, said, err := b.pingAs(ctx, "65534:65534")
	switch {
	case code == enter.CodeNotFound:
		return skip("no ping in the image")
	case err != nil:
		return skip("%v", err)
	case code == 0:
		return pass("works")
	}
	if code, _, err := b.pingAs(ctx, "0"); err != nil || code != 0 {
		return skip("ping does not work for root either: %s", said)
	}
	why := "users of the box see \"Operation not permitted\""
	fix := fmt.Sprintf("boxrun exec %s -- sysctl -w net.ipv4.ping_group_range=\"%s\"", b.Name, network.PingGroups)
	return fail(why, fix, "ping works for root only: the image's ping has lost its capability, or is on a file system mounted nosuid, "+
		"and net.ipv4.ping_group_range lets no group send: %s", said)
}

// pingAs runs ping in the box as user. It returns the exit code, and the last line of the output.
func (b boxLooks) pingAs(ctx context.Context, user string) (code int, said string, err error) {
	var out say.Head
	code, err = enter.RefOf(b.store, b.Box).Run(ctx, enter.Command{Argv: []string{"ping", "-c", "1", "-W", "1", "127.0.0.1"}, User: user, Stdout: &out, Stderr: &out})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return code, say.Printable(lines[len(lines)-1]), err
}
