package netsetup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Outsider is a throw-away network behind a veth of the host: it stands for a client outside, so that a connection from
// it takes the way that a stranger's takes. Its namespace has no name, so it dies, and the veth with it, with the
// process that made it, however that ends.
type Outsider struct {
	Addr    netip.Addr // the client's
	Gateway netip.Addr // the host's, on the veth
	Device  string     // the host's end
	MTU     int        // of the host's end: below what Ethernet has, as on many a way through the world
	ns      netns.NsHandle
	host    *netlink.Handle
}

// The host's ends are named after the process they belong to.
const outsiderPrefix = "boxrun-d"

// outsiderMTU is what the client itself has, so that it sends segments too large for the host's end unless BOXRUN-MSS
// tells it.
const outsiderMTU = 1500

// benchmark is kept for testing networks (RFC 2544): nobody's packets go there.
func benchmark() netip.Prefix { return netip.MustParsePrefix("198.18.0.0/15") }

// OpenOutsider makes one. mtu is that of the way it stands for; Close it, or end the process.
func OpenOutsider(mtu int) (*Outsider, error) {
	host, err := openRoute(netns.None())
	if err != nil {
		return nil, err
	}
	o := &Outsider{Device: outsiderPrefix + strconv.Itoa(os.Getpid()), MTU: mtu, ns: netns.None(), host: host}
	if err := o.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("making a network that stands for a client outside: %w", err), o.Close())
	}
	return o, nil
}

func (o *Outsider) open() error {
	if err := o.pickAddrs(); err != nil {
		return err
	}
	err := inThread(func() (err error) {
		o.ns, err = netns.New()
		return err
	})
	if err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: o.Device, MTU: o.MTU, Alias: "boxrun:doctor"},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(int(o.ns)),
	}
	if err := o.host.LinkAdd(veth); err != nil {
		return fmt.Errorf("adding %s: %w", o.Device, err)
	}
	if err := raiseLink(o.host, o.Device, o.MTU, o.Gateway); err != nil {
		return err
	}
	return o.openInside()
}

// openInside gives the client its address, and the host for a way to everywhere. It segments and sums itself, as a
// machine behind a wire has to.
func (o *Outsider) openInside() error {
	inside, err := openRoute(o.ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := raiseLink(inside, "lo", 0, netip.Addr{}); err != nil {
		return err
	}
	if err := raiseLink(inside, "eth0", outsiderMTU, o.Addr); err != nil {
		return err
	}
	gateway := &netlink.Route{Gw: o.Gateway.AsSlice()}
	if err := inside.RouteAdd(gateway); err != nil {
		return fmt.Errorf("adding the client's default route: %w", err)
	}
	awaitUp(inside, "eth0")
	awaitUp(o.host, o.Device)
	return inNetwork(o.ns, func() error {
		eth, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer eth.Close()
		return eth.Change("eth0", map[string]bool{
			"tx-tcp-segmentation": false, "tx-generic-segmentation": false, "tx-checksum-ip-generic": false,
		})
	})
}

// raiseLink gives a link its mtu, an address of a network of two, and sets it up. Zeroes leave things as they are.
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

// awaitUp waits until the kernel has noticed that both ends of a link are up: what is sent before is lost, and sent again
// a second later. It is a matter of milliseconds; where it is not, connections tell.
func awaitUp(h *netlink.Handle, name string) {
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		link, err := h.LinkByName(name)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return
		}
	}
}

// pickAddrs finds a network of two addresses that no route of the host leads to. It begins with a place of the process's
// own, as another doctor may be at work.
func (o *Outsider) pickAddrs() error {
	routes, err := routeList(o.host, netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("listing routes: %w", err)
	}
	const networks = 1 << (30 - 15)
	for i := range 16 {
		p := nthNetwork(benchmark(), (os.Getpid()+i*2047)%networks)
		taken := false
		for _, r := range routes {
			dst := prefixOf(r.Dst)
			taken = taken || !isDefault(dst) && dst.Overlaps(p)
		}
		if !taken {
			o.Gateway = p.Addr().Next()
			o.Addr = o.Gateway.Next()
			return nil
		}
	}
	return fmt.Errorf("the host has routes to all of %v", benchmark())
}

// nthNetwork gives the n-th network of four addresses in p.
func nthNetwork(p netip.Prefix, n int) netip.Prefix {
	b := p.Addr().As4()
	b[1] += byte(n >> 14)
	b[2] = byte(n >> 6)
	b[3] = byte(n << 2)
	return netip.PrefixFrom(netip.AddrFrom4(b), 30)
}

// Dial connects from the outsider. The address is IP:PORT.
func (o *Outsider) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return dialIn(ctx, o.ns, network, address)
}

// Listen listens there.
func (o *Outsider) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	err = inNetwork(o.ns, func() error {
		l, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return l, err
}

// Close takes it away, and what the host's connection tracking remembers of it.
func (o *Outsider) Close() error {
	defer o.host.Close()
	var errs []error
	link, err := o.host.LinkByName(o.Device)
	if err == nil {
		err = o.host.LinkDel(link)
	}
	if !errors.As(err, &netlink.LinkNotFoundError{}) {
		errs = append(errs, err)
	}
	if o.ns.IsOpen() {
		errs = append(errs, o.ns.Close())
	}
	return errors.Join(append(errs, o.forget())...)
}

// forget deletes the tracked connections of the outsider, whichever end began them.
func (o *Outsider) forget() error {
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	k := Kernel{link: h}
	defer h.Close()
	return k.forgetFlows(func(f *netlink.ConntrackFlow) bool {
		return addrOf(f.Forward.SrcIP) == o.Addr || addrOf(f.Forward.DstIP) == o.Addr
	})
}

// SweepOutsiders removes those whose process is gone, and gives their names. The kernel does the same, some time later.
func SweepOutsiders() ([]string, error) {
	h, err := openRoute(netns.None())
	if err != nil {
		return nil, err
	}
	defer h.Close()
	links, err := linkList(h)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	var swept []string
	var errs []error
	for _, l := range links {
		owner, ours := strings.CutPrefix(l.Attrs().Name, outsiderPrefix)
		pid := parsePID(owner)
		if !ours || pid == 0 || l.Type() != "veth" || l.Attrs().Alias != "boxrun:doctor" || exists(pid) {
			continue
		}
		swept = append(swept, l.Attrs().Name)
		errs = append(errs, h.LinkDel(l))
	}
	return swept, errors.Join(errs...)
}

// InNetworkOf runs do in the network of a process: sockets it opens, and what it reads of /proc/sys/net, are of that
// network. What do starts in other goroutines is not.
func InNetworkOf(pid int, do func() error) error {
	ns, err := openNetns(pid)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	return inNetwork(ns, do)
}

// DialFrom connects from the network of a process. The address is IP:PORT.
func DialFrom(ctx context.Context, pid int, network, address string) (net.Conn, error) {
	ns, err := openNetns(pid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	return dialIn(ctx, ns, network, address)
}

// dialIn opens the socket on a thread that is in ns. For an address in numbers the library asks nobody and starts no
// goroutine.
func dialIn(ctx context.Context, ns netns.NsHandle, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, err
	}
	err = inNetwork(ns, func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func inNetwork(ns netns.NsHandle, do func() error) error {
	return inThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return do()
	})
}

// inThread runs do on a thread that is put back into the caller's network afterwards; where that fails it stays locked,
// and ends with its goroutine.
func inThread(do func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		own, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		err = do()
		if netns.Set(own) == nil {
			runtime.UnlockOSThread()
		}
		_ = own.Close()
		result <- err
	}()
	return <-result
}
