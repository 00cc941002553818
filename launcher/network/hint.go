package network

import (
	"net/netip"
	"regexp"
	"strconv"

	"boxrun/launcher/box"
)

// page is an address in a hint as [ready] http writes addresses: the host is the box.
var page = regexp.MustCompile(`\b(https?)://:(\d{1,5})`)

// Hint returns the hint of a box's profile. Each "https://:443" in the hint becomes the address by which the host
// reaches that port of the box: a published address if there is one, else the box's own.
func Hint(b *box.Box) string {
	return page.ReplaceAllStringFunc(b.Profile.Ready.Hint, func(found string) string {
		part := page.FindStringSubmatch(found)
		port, err := strconv.ParseUint(part[2], 10, 16)
		if err != nil {
			return found
		}
		at := reached(b, uint16(port))
		if at.Port() == map[string]uint16{"http": 80, "https": 443}[part[1]] {
			return part[1] + "://" + at.Addr().String()
		}
		return part[1] + "://" + at.String()
	})
}

// reached returns where the host reaches a TCP port of a box.
func reached(b *box.Box, port uint16) netip.AddrPort {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if !b.Bridged() && !b.OnLAN() {
		return netip.AddrPortFrom(loopback, port)
	}
	for _, p := range b.Profile.Network.Ports {
		if p.Proto == "tcp" && port-p.Container < p.Count {
			at := loopback
			if p.HostIP.IsValid() {
				at = p.HostIP
			}
			return netip.AddrPortFrom(at, p.Host+port-p.Container)
		}
	}
	return netip.AddrPortFrom(b.Addr, port)
}
