package six

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"boxrun/netsetup/dump"

	"golang.org/x/sys/unix"
)

// Announce tells all neighbours the MAC of the box, by an unsolicited advertisement (RFC 4861, 7.2.6). Neighbours of an
// earlier box at the address would send to the earlier MAC until their entries are old.
func (i *Inside) Announce() error {
	link, err := dump.OfHost().LinkByName(i.Device)
	if err != nil {
		return fmt.Errorf("reading %q: %w", i.Device, err)
	}
	const advertisement, override, targetMAC = 136, 0x20, 2
	message := slices.Concat([]byte{advertisement, 0, 0, 0, override, 0, 0, 0}, i.Prefix.Addr().AsSlice(),
		[]byte{targetMAC, 1}, link.Attrs().HardwareAddr)
	everyone := unix.SockaddrInet6{Addr: netip.IPv6LinkLocalAllNodes().As16(), ZoneId: uint32(link.Attrs().Index)}
	socket, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()
	return errors.Join(
		unix.SetsockoptInt(socket, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255), // others are forged, and ignored
		unix.Bind(socket, &unix.SockaddrInet6{Addr: i.Prefix.Addr().As16()}),
		unix.Sendto(socket, message, 0, &everyone))
}
