package six

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"boxrun/netsetup/small"
)

// setting is the file of a setting of a device, in the caller's network namespace. "all" and "default" are devices here.
func setting(device, name string) string {
	return filepath.Join("/proc/sys/net/ipv6/conf", device, name)
}

// Possible reports whether the host uses IPv6 and devices to come will: the kernel may be without, or all of IPv6 may be
// turned off.
func Possible() bool {
	return is("all", "disable_ipv6", "0") && is("default", "disable_ipv6", "0")
}

// Believing returns the devices that believe advertisements of routers, "default" among them. A device that forwards is
// left out: it believes nobody by accept_ra 1.
func Believing() (devices []string, err error) {
	paths, err := small.Find(setting("*", "accept_ra"))
	for _, path := range paths {
		device := filepath.Base(filepath.Dir(path))
		if is(device, "accept_ra", "1") && is(device, "forwarding", "0") {
			devices = append(devices, device)
		}
	}
	return devices, err
}

// BelieveNobody has no device in the caller's network take what a router says, now or later: on a bridge any neighbour of
// a box may play the router. A kernel without IPv6 has nothing to set.
func BelieveNobody() error {
	paths, err := small.Find(setting("*", "accept_ra"))
	for _, path := range paths {
		if err := os.WriteFile(path, []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// TypedBelieveNobody returns the command to type in place of BelieveNobody, in the network of a process.
func TypedBelieveNobody(pid string) string {
	return "nsenter -t " + pid + " -n sh -c 'for f in " + setting("*", "accept_ra") + "; do echo 0 > $f; done'"
}

// is reports whether a setting has a value. A device that is gone has none.
func is(device, name, value string) bool {
	have, err := small.Read(setting(device, name))
	return err == nil && strings.TrimSpace(string(have)) == value
}

// UniqueLocal returns the network of unique local addresses (RFC 4193) of a bridge: the same on every day, and another on
// each machine. etc has machine-id, which the network does not disclose.
func UniqueLocal(etc, bridge string) (netip.Prefix, error) {
	id, err := small.Read(filepath.Join(etc, "machine-id"))
	if err != nil {
		return netip.Prefix{}, err
	}
	if len(strings.TrimSpace(string(id))) != 32 {
		return netip.Prefix{}, fmt.Errorf("%s has no id", filepath.Join(etc, "machine-id"))
	}
	sum := sha256.Sum256([]byte("boxrun " + strings.TrimSpace(string(id)) + " " + bridge))
	addr := [16]byte{0: 0xfd}
	copy(addr[1:8], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(addr), 64), nil
}

// LinkLocal returns the link-local address that goes with a MAC (RFC 4291, appendix A).
func LinkLocal(mac net.HardwareAddr) netip.Prefix {
	addr := [16]byte{0: 0xfe, 1: 0x80, 11: 0xff, 12: 0xfe}
	copy(addr[8:11], mac[:3])
	copy(addr[13:], mac[3:])
	addr[8] ^= 2
	return netip.PrefixFrom(netip.AddrFrom16(addr), 64)
}

// Beside returns the IPv6 address that goes with an IPv4 address: the same place in subnet6 as addr has in subnet. The
// result is zero without a subnet6.
func Beside(subnet, subnet6 netip.Prefix, addr netip.Addr) netip.Addr {
	if !subnet6.IsValid() || !addr.Is4() {
		return netip.Addr{}
	}
	base, a := subnet.Addr().As4(), addr.As4()
	place := binary.BigEndian.Uint32(a[:]) - binary.BigEndian.Uint32(base[:])
	out := subnet6.Addr().As16()
	binary.BigEndian.PutUint32(out[12:], binary.BigEndian.Uint32(out[12:])+place)
	return netip.AddrFrom16(out)
}
