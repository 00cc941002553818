package box

import (
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"boxrun/netsetup"
	"boxrun/netsetup/six"
	"boxrun/profiles"
)

// Subnet6 returns the IPv6 network of a bridge: network.subnet6, or a network made from the host's machine-id as the id was
// when the first box came to the bridge. The result is zero without IPv6, in the profile or on the host. Of the host it is a
// look of the last second: whoever looks at fifty boxes asks a thousand times.
func Subnet6(n profiles.Network) netip.Prefix {
	if n.Mode != profiles.BridgeMode || n.Subnet6 == "" {
		return netip.Prefix{}
	}
	return looks6.of(wanted6{n.Bridge, n.Subnet6, os.Getenv("PATH")}, func() netip.Prefix { return lookSubnet6(n) })
}

// wanted6 is all that the answer of Subnet6 follows from, but the host.
type wanted6 struct{ bridge, subnet6, path string }

// looks6 are the looks of this process.
var looks6 looks //nolint:gochecknoglobals // the host is the same for all of a process

// looks keeps answers for a second.
type looks struct {
	mu    sync.Mutex
	until time.Time
	known map[wanted6]netip.Prefix
}

// of returns the answer kept, or else that of look.
func (l *looks) of(w wanted6, look func() netip.Prefix) netip.Prefix {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.After(l.until) {
		l.until, l.known = now.Add(time.Second), map[wanted6]netip.Prefix{}
	}
	if _, known := l.known[w]; !known {
		l.known[w] = look()
	}
	return l.known[w]
}

// lookSubnet6 is Subnet6 for a bridge that is to have IPv6.
func lookSubnet6(n profiles.Network) netip.Prefix {
	switch {
	case !six.Possible():
		return netip.Prefix{}
	case n.Subnet6 == profiles.AutoSubnet6:
		subnet6, _ := autoSubnet6(n.Bridge) // Lacks6 tells of the error
		return subnet6
	}
	subnet6, _ := netip.ParsePrefix(n.Subnet6) // profiles has checked the text
	return subnet6
}

// autoSubnet6 returns the network that the host makes up for a bridge, or what the host lacks for IPv6 of boxes.
func autoSubnet6(bridge string) (netip.Prefix, error) {
	if err := netsetup.LacksIP6tables(); err != nil {
		return netip.Prefix{}, err
	}
	if kept := keptSubnet6(StateDir, bridge); kept.IsValid() {
		return kept, nil
	}
	return six.UniqueLocal("/etc", bridge)
}

// keptSubnet6 returns the IPv6 network that a bridge has for the boxes there, as its log in the directory of the state has
// the network; zero without such a log. The machine-id may be another by now, and boxes keep their addresses.
func keptSubnet6(dir, bridge string) netip.Prefix {
	var log netsetup.Plan
	err := ReadJSON(filepath.Join(dir, "bridges", bridge+".json"), &log)
	if err != nil || log.Address6 == nil { // of a broken log repair tells
		return netip.Prefix{}
	}
	return log.Address6.Prefix.Masked()
}

// Lacks6 returns what a host that has IPv6 itself lacks for IPv6 of the network's boxes; nil for nothing, or where the
// profile has no IPv6.
func Lacks6(n profiles.Network) error {
	switch {
	case n.Mode != profiles.BridgeMode || n.Subnet6 == "" || !six.Possible():
		return nil
	case n.Subnet6 == profiles.AutoSubnet6:
		_, err := autoSubnet6(n.Bridge)
		return err
	}
	return netsetup.LacksIP6tables()
}

// HasIPv6 reports whether boxes of the network have IPv6 on this host.
func HasIPv6(n profiles.Network) bool { return Subnet6(n).IsValid() }

// Addrs returns the addresses of the box: of IPv4, and of IPv6 where the box has IPv6.
func (b *Box) Addrs() []netip.Addr {
	if six := b.Addr6(); six.IsValid() {
		return []netip.Addr{b.Addr, six}
	}
	return []netip.Addr{b.Addr}
}

// Addr6 returns the IPv6 address of the box, which follows from the IPv4 address; zero without IPv6.
func (b *Box) Addr6() netip.Addr {
	if !b.Bridged() {
		return netip.Addr{}
	}
	return six.Beside(b.Profile.Network.Subnet, Subnet6(b.Profile.Network), b.Addr)
}
