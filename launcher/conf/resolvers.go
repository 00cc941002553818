package conf

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/list"
	"boxrun/launcher/say"
	"boxrun/netsetup/resolvers"
	"boxrun/profiles"
)

// Resolvers is the configuration of name resolution in a box.
type Resolvers struct {
	Servers []netip.Addr
	Search  []string
	Options []string
	File    string // a complete resolv.conf with more settings; "": Servers and Search are all
	Lack    string // why the box has no server that it can ask; "" for none. It is no error, as the box may not need names
}

// LackHint says what to do about a Lack.
const LackHint = "set network.dns to servers that the box can reach"

// LookResolvers chooses name servers: the profile's; in host mode the servers of the host's resolv.conf, even
// 127.0.0.53; on a bridge the host's upstream servers.
func LookResolvers(p profiles.Profile) (Resolvers, error) {
	n := p.Network
	switch {
	case len(n.DNS) > 0:
		return Resolvers{Servers: n.DNS, Search: n.Search, Options: n.DNSOptions, Lack: lackOf(n)}, nil
	case n.Mode == profiles.NoneMode:
		return Resolvers{}, nil
	case n.Mode == profiles.HostMode:
		text, err := files.ReadIfThere("/etc/resolv.conf")
		return ofHostMode(n, text), err
	}
	host, err := resolvers.OfHost(box.HasIPv6(n))
	if len(n.Search) > 0 {
		host.Search = n.Search
	}
	if len(n.DNSOptions) > 0 {
		host.Options = n.DNSOptions
	}
	r := Resolvers{Servers: host.Servers, Search: host.Search, Options: host.Options}
	switch {
	case err != nil || len(host.Servers) > 0:
	case len(host.Others) > 0:
		r.Lack = fmt.Sprintf("the host's name servers are of IPv6, %s, and the box has IPv4 alone", say.Listed(list.Map(host.Others, netip.Addr.String), 3))
	default:
		r.Lack = "the host's name servers are unknown"
	}
	return r, err
}

// lackOf returns the Lack where network.dns names servers of IPv6 alone, and the box has no IPv6 on this host.
func lackOf(n profiles.Network) string {
	if n.Mode != profiles.BridgeMode || slices.ContainsFunc(n.DNS, netip.Addr.Is4) || box.HasIPv6(n) {
		return ""
	}
	return "the servers of network.dns are of IPv6, and the box has IPv4 alone on this host"
}

// ofHostMode returns the configuration of a box in the host's network: that of the host's resolv.conf, in which the
// profile may replace domains and options.
func ofHostMode(n profiles.Network, text string) Resolvers {
	if len(n.Search) == 0 && len(n.DNSOptions) == 0 {
		return Resolvers{File: text}
	}
	own := resolvers.Parse(text)
	r := Resolvers{Servers: own.Servers, Search: n.Search, Options: n.DNSOptions}
	if len(r.Search) == 0 {
		r.Search = own.Search
	}
	if len(r.Options) == 0 {
		r.Options = own.Options
	}
	return r
}

// ServersDrift returns a line about the resolver files of a box if a start would choose other name servers for the box
// now; "" if not. The servers of a host change with DHCP leases and VPNs.
func ServersDrift(s *box.Store, b *box.Box) (string, error) {
	_, line, err := serversDrift(s, b)
	return line, err
}

// TellServers rewrites the resolver files of a running box if ServersDrift has a line about the files, and returns the
// line. systemd-resolved in the box reads its file at its start alone, and is started anew. The caller holds the lock of
// the box.
func TellServers(ctx context.Context, s *box.Store, b *box.Box) ([]string, error) {
	set, line, err := serversDrift(s, b)
	if err != nil || line == "" {
		return nil, err
	}
	if err := set.Write(); err != nil {
		return nil, err
	}
	return []string{line}, guest.RestartIfActive(ctx, b.Init.PID, "systemd-resolved.service")
}

// Typed returns what a person types for the effect of TellServers and TellNames on a single box.
func Typed(s *box.Store, b *box.Box, boxes []*box.Box) ([]string, error) {
	set, line, err := serversDrift(s, b)
	if err != nil {
		return nil, err
	}
	var lines []string
	if line != "" {
		lines = set.Commands()
		if !box.IsHello(b.Profile.Image) {
			lines = append(lines, "apptainer exec instance://"+b.Name+" systemctl -q try-restart systemd-resolved.service 2>/dev/null || true")
		}
	}
	if !Named(b) {
		return lines, nil
	}
	names, err := NamesDrift(s, b, boxes)
	if names != "" {
		lines = append(lines, HostsFile(s, b, boxes).Command())
	}
	return lines, err
}

// serversDrift returns the resolver files of a box as a start would write them now, and the line of ServersDrift.
func serversDrift(s *box.Store, b *box.Box) (set files.Set, line string, err error) {
	names, err := LookResolvers(b.Profile)
	if err != nil {
		return set, "", err
	}
	set = Dir{Systemd: !box.IsHello(b.Profile.Image), Names: names}.resolverFiles(s.ConfDir(b.Name))
	for _, f := range set.Files {
		written, err := f.IsWritten()
		if err != nil {
			return set, "", fmt.Errorf("reading the name servers of box %s: %w", b.Name, err)
		}
		if !written {
			return set, cmp.Or(f.OtherMode(), "the name servers of box "+b.Name+" are not those that its host has now"), nil
		}
	}
	return set, "", nil
}
