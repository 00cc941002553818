package outsider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/leases"
	"boxrun/netsetup/routing"
	"boxrun/netsetup/six"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Outsider is a throw-away network behind a veth of the host. It stands for a client outside: a connection from the
// Outsider takes the way of a stranger's. Its namespace has no name, so the namespace and the veth die with the
// process, however the process ends.
type Outsider struct {
	Addr    netip.Addr     // the client's
	Gateway netip.Addr     // the host's, on the veth
	Addr6   netip.Addr     // the client's of IPv6; zero where the host has none
	Device  string         // the host's end
	MTU     int            // of the host's end: below Ethernet's, as on many a way through the world
	NS      netns.NsHandle // the client's network
	host    *netlink.Handle
}

// The host's ends are named after the process they belong to.
const prefix = "boxrun-d"

// ClientDevice is the client's end.
const ClientDevice = "eth0"

// clientMTU is the MTU of the client itself, so the client sends segments too large for the host's end unless
// BOXRUN-MSS tells it.
const clientMTU = 1500

// benchmark is kept for testing networks (RFC 2544): nobody's packets go there.
func benchmark() netip.Prefix { return netip.MustParsePrefix("198.18.0.0/15") }

// Open makes an Outsider. The mtu, in bytes, is the MTU of the way to a real client. Close the Outsider, or
// end the process.
func Open(mtu int) (*Outsider, error) {
	o := &Outsider{Device: prefix + strconv.Itoa(os.Getpid()), MTU: mtu, NS: netns.None(), host: dump.OfHost()}
	if err := o.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("making a network that stands for a client outside: %w", err), o.Close())
	}
	return o, nil
}

func (o *Outsider) open() error {
	if err := o.pickAddrs(); err != nil {
		return err
	}
	ns, err := dump.InThread(netns.New)
	if err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	o.NS = ns
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: o.Device, MTU: o.MTU},
		PeerName:      ClientDevice,
		PeerNamespace: netlink.NsFd(int(o.NS)),
	}
	if err := o.host.LinkAdd(veth); err != nil {
		return fmt.Errorf("adding %s: %w", o.Device, err)
	}
	if err := o.mark(); err != nil {
		return err
	}
	if err := raiseLink(o.host, o.Device, o.MTU, o.Gateway); err != nil {
		return err
	}
	if err := o.lead(netip.PrefixFrom(o.Addr, 32)); err != nil {
		return err
	}
	if err := o.merge(); err != nil {
		return err
	}
	const least6 = 1280 // no IPv6 on a link with less (RFC 8200)
	if err := o.openInside(); err != nil || o.MTU < least6 || !six.Possible() {
		return err
	}
	return o.openSix()
}

// mark gives the host's end the alias by which others pass over its addresses. The kernel takes no alias of a new link, and
// says nothing.
func (o *Outsider) mark() error {
	link, err := o.host.LinkByName(o.Device)
	if err == nil {
		err = o.host.LinkSetAlias(link, routing.OfDoctor)
	}
	if err != nil {
		return fmt.Errorf("giving %s an alias: %w", o.Device, err)
	}
	return nil
}

// lead leads packets to the client, whatever the host's rules say of packets to strangers: each table that is asked before the
// main table, as a VPN's is that takes everything, gets a route to the client. The routes go with the device. Tailscale may add a
// route for the network of the device a second later, hence the client has a longer prefix.
func (o *Outsider) lead(client netip.Prefix) error {
	lists := routing.Lists{Family: netlink.FAMILY_V4}
	if client.Addr().Is6() {
		lists.Family = netlink.FAMILY_V6
	}
	link, err := o.host.LinkByName(o.Device)
	if err != nil {
		return fmt.Errorf("looking up %s: %w", o.Device, err)
	}
	if lists.Rules, err = dump.Rules(o.host, lists.Family); err != nil {
		return fmt.Errorf("reading the routing rules: %w", err)
	}
	if lists.Routes, err = dump.Routes(o.host, lists.Family, &netlink.Route{}, netlink.RT_FILTER_TABLE); err != nil {
		return fmt.Errorf("reading the routes: %w", err)
	}
	for _, table := range routing.Read(lists).Ahead(o.Device, client) {
		err := o.host.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dump.IPNet(client), Table: table, Scope: netlink.SCOPE_LINK})
		if err != nil {
			return fmt.Errorf("leading packets to %v in table %d: %w", client, table, err)
		}
	}
	return nil
}

// merge has the host's end make one packet of many segments, as network cards do. The kernel leaves the checksum of such a
// packet to the device by which the packet goes on.
func (o *Outsider) merge() error {
	eth, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer eth.Close()
	return eth.Change(o.Device, map[string]bool{"rx-gro": true})
}

// openInside sets up the client: its address, and the host as the way to everywhere. The client segments and sums
// itself, as a machine behind a wire must.
func (o *Outsider) openInside() error {
	inside, err := dump.Open(o.NS)
	if err != nil {
		return err
	}
	defer inside.Close()
	lo, eth0 := raiseLink(inside, "lo", 0, netip.Addr{}), raiseLink(inside, ClientDevice, clientMTU, o.Addr)
	if err := errors.Join(lo, eth0); err != nil {
		return err
	}
	if err := inside.RouteAdd(&netlink.Route{Gw: o.Gateway.AsSlice()}); err != nil {
		return fmt.Errorf("adding the client's default route: %w", err)
	}
	awaitUp(inside, ClientDevice)
	awaitUp(o.host, o.Device)
	eth, err := dump.InNetwork(o.NS, ethtool.NewEthtool) // a socket of the client's network, whoever uses the socket
	if err != nil {
		return err
	}
	defer eth.Close()
	return eth.Change(ClientDevice, map[string]bool{
		"tx-tcp-segmentation": false, "tx-generic-segmentation": false, "tx-checksum-ip-generic": false,
	})
}

// openSix gives both ends addresses of IPv6, and the client the host as the way to everywhere.
func (o *Outsider) openSix() error {
	inside, err := dump.Open(o.NS)
	if err != nil {
		return err
	}
	defer inside.Close()
	gateway := benchmark6(o.Gateway)
	for _, end := range []struct {
		*netlink.Handle
		device string
		addr   netip.Addr
	}{{o.host, o.Device, gateway}, {inside, ClientDevice, gateway.Next()}} {
		link, err := end.LinkByName(end.device)
		if err == nil {
			err = six.AddTo(end.Handle, link, netip.PrefixFrom(end.addr, 126))
		}
		if err != nil {
			return fmt.Errorf("giving %s an address of IPv6: %w", end.device, err)
		}
	}
	o.Addr6 = gateway.Next()
	if err := o.lead(netip.PrefixFrom(o.Addr6, 128)); err != nil {
		return err
	}
	return inside.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()})
}

// raiseLink sets the MTU of a link, adds an address in a network of two, and sets the link up. Zeroes leave things as
// they are.
func raiseLink(h *netlink.Handle, name string, mtu int, addr netip.Addr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("looking up %s: %w", name, err)
	}
	if mtu > 0 {
		if err := h.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("setting the mtu of %s: %w", name, err)
		}
	}
	if addr.IsValid() {
		own := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(30, 32)}}
		if err := h.AddrAdd(link, own); err != nil {
			return fmt.Errorf("giving %s an address: %w", name, err)
		}
	}
	return h.LinkSetUp(link)
}

// awaitUp waits until the kernel has noticed that both ends of a link are up, a matter of milliseconds. Earlier
// packets would be lost, and sent again a second later. If the wait ends in vain, connections tell.
func awaitUp(h *netlink.Handle, name string) {
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		link, err := h.LinkByName(name)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return
		}
	}
}

// pickAddrs finds a network of two addresses without a route of the host. The search begins at a place of the
// process's own, as another doctor may be at work.
func (o *Outsider) pickAddrs() error {
	routes, err := dump.Routes(o.host, netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("listing routes: %w", err)
	}
	const networks = 1 << (30 - 15)
	for i := range 16 {
		p := nthNetwork(benchmark(), (os.Getpid()+i*2047)%networks)
		taken := slices.ContainsFunc(routes, func(r netlink.Route) bool {
			dst := dump.PrefixOf(r.Dst)
			return dst.Bits() > 1 && dst.Overlaps(p)
		})
		if !taken {
			o.Gateway = p.Addr().Next()
			o.Addr = o.Gateway.Next()
			return nil
		}
	}
	return fmt.Errorf("the host has routes to all of %v", benchmark())
}

// nthNetwork returns the n-th network of four addresses in p.
func nthNetwork(p netip.Prefix, n int) netip.Prefix {
	b := p.Addr().As4()
	b[1] += byte(n >> 14)
	b[2] = byte(n >> 6)
	b[3] = byte(n << 2)
	return netip.PrefixFrom(netip.AddrFrom4(b), 30)
}

// benchmark6 is the same for IPv6 (RFC 5180), as a network of four addresses for each network of benchmark.
func benchmark6(gateway netip.Addr) netip.Addr {
	a, place := netip.MustParseAddr("2001:2::").As16(), gateway.As4()
	copy(a[12:], place[:])
	return netip.AddrFrom16(a)
}

// Source returns the client's address in the family of an address; zero for none.
func (o *Outsider) Source(like netip.Addr) netip.Addr {
	if like.Is6() {
		return o.Addr6
	}
	return o.Addr
}

// Dial connects from the outsider. The address is IP:PORT.
func (o *Outsider) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return dump.DialIn(ctx, o.NS, network, address)
}

// Close takes the Outsider away, and what the host's connection tracking remembers of the Outsider.
func (o *Outsider) Close() error {
	link, err := o.host.LinkByName(o.Device)
	if err == nil {
		err = o.host.LinkDel(link)
	}
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		err = nil
	}
	if o.NS.IsOpen() {
		err = errors.Join(err, o.NS.Close())
	}
	ours := func(f *netlink.ConntrackFlow) bool { // whichever end began them
		from, to := dump.AddrOf(f.Forward.SrcIP), dump.AddrOf(f.Forward.DstIP)
		return from == o.Source(from) || to == o.Source(to)
	}
	err = errors.Join(err, dump.ForgetMatching(o.host, netlink.FAMILY_V4, ours))
	if o.Addr6.IsValid() {
		err = errors.Join(err, dump.ForgetMatching(o.host, netlink.FAMILY_V6, ours))
	}
	return err
}

// Sweep removes the Outsiders of processes that are gone, and returns their names. The kernel does the same,
// some time later.
func Sweep() ([]string, error) {
	h := dump.OfHost()
	links, err := dump.Links(h)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	var swept []string
	var errs []error
	for _, l := range links {
		owner, ours := strings.CutPrefix(l.Attrs().Name, prefix)
		pid := leases.PID(owner)
		if !ours || pid == 0 || l.Type() != "veth" || l.Attrs().Alias != routing.OfDoctor || leases.Alive(pid) {
			continue
		}
		swept = append(swept, l.Attrs().Name)
		errs = append(errs, h.LinkDel(l))
	}
	return swept, errors.Join(errs...)
}
