package resolvers

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup/small"
)

// List is the name servers a box can ask.
type List struct {
	Servers []netip.Addr
	Search  []string // domains
	Options []string // of resolv.conf(5), such as ndots:2
	Source  string   // the file the servers were found in; empty where there are none

	Others []netip.Addr // without Servers: servers of IPv6 that a box with IPv4 alone cannot ask
}

// OfHost returns the name servers of the host's own answers. Where nothing is left, Servers is empty and there is no
// error: somebody must tell the box.
//
// A stub on 127.0.0.53 cannot be reached from a box. So where /etc/resolv.conf names only a stub, OfHost reads the files
// in which systemd-resolved and NetworkManager keep the real servers. Servers out of reach of a box are left out: those on
// loopback, those of IPv6 for a box without (six is false), and those on a link of the host's. IPv4's link-local
// 169.254.0.0/16 stays, as clouds have their resolvers there and the host forwards to them.
func OfHost(six bool) (List, error) {
	return below("/", six)
}

// Files returns the files read by OfHost, in the order of reading.
func Files() []string {
	return []string{
		"/etc/resolv.conf",
		"/run/systemd/resolve/resolv.conf",
		"/run/NetworkManager/no-stub-resolv.conf",
		"/run/NetworkManager/resolv.conf",
	}
}

// below reads the files below root.
func below(root string, six bool) (List, error) {
	var search, options []string
	var others []netip.Addr
	for i, file := range Files() {
		text, err := small.Read(filepath.Join(root, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return List{}, fmt.Errorf("looking for the host's name servers: %w", err)
		}
		r := Parse(string(text))
		if len(search) == 0 {
			search = r.Search
		}
		if i == 0 { // the options of the host's own answers
			options = r.Options
		}
		for _, a := range slices.DeleteFunc(slices.Clone(r.Servers), unreachable(true)) {
			others = appendServer(others, []string{a.String()})
		}
		if r.Servers = slices.DeleteFunc(r.Servers, unreachable(six)); len(r.Servers) > 0 {
			if i > 0 {
				options = untrusted(options)
			}
			return List{Servers: r.Servers, Search: search, Options: options, Source: file}, nil
		}
	}
	return List{Search: search, Options: untrusted(options), Others: others}, nil
}

// untrusted drops the option that trusts a local stub to have checked signatures: the servers behind the stub may not
// check any.
func untrusted(options []string) []string {
	return slices.DeleteFunc(options, func(o string) bool { return o == "trust-ad" })
}

// NameServers returns the servers in the text of a resolv.conf, as read by the C library: three at most.
func NameServers(text string) []netip.Addr {
	servers := Parse(text).Servers
	return servers[:min(3, len(servers))]
}

// unreachable returns what reports whether a name server is of no use to a box, with IPv6 or without. The address 0.0.0.0
// stands for the machine asking.
func unreachable(six bool) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		return a.IsLoopback() || a.IsUnspecified() || a.Is6() && (!six || a.IsLinkLocalUnicast())
	}
}

// Parse reads what resolv.conf(5) says of servers, domains and options, as glibc does: a keyword starts its line, the last of
// search and domain wins, and what cannot be understood is passed over. Each server is named once.
func Parse(text string) List {
	var r List
	for line := range strings.Lines(text) {
		fields := strings.Fields(strings.TrimRight(line, "\r\n"))
		if len(fields) < 2 || !strings.HasPrefix(line, fields[0]) {
			continue
		}
		rest := strings.Join(fields[1:], " ")
		if comment := strings.IndexAny(rest, "#;"); comment >= 0 {
			rest = rest[:comment]
		}
		values := strings.Fields(rest)
		switch fields[0] {
		case "nameserver":
			r.Servers = appendServer(r.Servers, values)
		case "domain":
			r.Search = domains(values[:min(1, len(values))])
		case "search":
			r.Search = domains(values)
		case "options": // each line adds to those before
			r.Options = append(r.Options, values...)
		}
	}
	return r
}

// appendServer adds the first value, if the value is a new address. A zone, as in fe80::1%eth0, is kept.
func appendServer(servers []netip.Addr, values []string) []netip.Addr {
	if len(values) == 0 {
		return servers
	}
	addr, err := netip.ParseAddr(values[0])
	if addr = addr.Unmap(); err != nil || slices.Contains(servers, addr) {
		return servers
	}
	return append(servers, addr)
}

// domains drops the root: systemd-resolved writes the root where there are no domains.
func domains(values []string) []string {
	return slices.DeleteFunc(values, func(d string) bool { return d == "." })
}
