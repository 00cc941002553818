package conf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/netsetup/resolvers"
	"boxrun/profiles"
)

// Boxes on the same bridge find each other by name through their hosts files. There is no name server to run, to reach,
// or to fail. Each file is bound into its box, and rewritten in place as boxes come and go, under the network's lock.

// neighbour is a box as known to the other boxes on its bridge.
type neighbour struct {
	Addr  netip.Addr
	Names []string // the box's own name comes first
}

// neighbours returns, from boxes, the other boxes running on b's bridge, in the order of boxes. A crashed box is left
// out: another box may have its address by now. A host name equal to the name of another box here belongs to the other
// box.
func neighbours(b *box.Box, boxes []*box.Box) []neighbour {
	if !b.Bridged() {
		return nil
	}
	taken := []string{b.Name, b.Profile.Hostname}
	var here []*box.Box
	for _, other := range boxes {
		if other.Name != b.Name && other.Profile.Network.Bridge == b.Profile.Network.Bridge && Named(other) {
			here = append(here, other)
			taken = append(taken, other.Name)
		}
	}
	list := make([]neighbour, len(here))
	for i, other := range here {
		list[i] = neighbour{Addr: other.Addr, Names: []string{other.Name}}
		for _, name := range namesOf(other.Profile.Hostname) {
			if !slices.Contains(taken, name) {
				list[i].Names = append(list[i].Names, name)
				taken = append(taken, name)
			}
		}
	}
	return list
}

// Named reports whether others find the box by its name: the box is on a bridge, and runs, or would run in a dry run.
func Named(b *box.Box) bool {
	return b.Bridged() && (b.Foreseen || b.Phase == box.Running && b.Alive())
}

// namesOf returns a host name, and its first part if the name has a domain.
func namesOf(hostname string) []string {
	names := []string{hostname}
	if short, _, ok := strings.Cut(hostname, "."); ok {
		names = append(names, short)
	}
	return names
}

// HostsFile returns the file bound over b's /etc/hosts. Its content names the neighbours of b among boxes.
func HostsFile(s *box.Store, b *box.Box, boxes []*box.Box) files.File {
	return files.File{Path: filepath.Join(s.ConfDir(b.Name), "hosts"), Content: HostsOf(b, boxes), Mode: 0o644}
}

// HostsOf returns the content of b's hosts file, naming the neighbours of b among boxes.
func HostsOf(b *box.Box, boxes []*box.Box) string {
	own := namesOf(b.Profile.Hostname)
	if !slices.Contains(own, b.Name) {
		own = append(own, b.Name)
	}
	return hostsText(own, b.Addr, neighbours(b, boxes))
}

// TellNames rewrites the hosts files of all boxes to match the boxes running now, and returns a line for each file
// found wrong. If any box's record is unreadable, the files stay as they are, with a note. The caller holds the
// network's lock.
func TellNames(s *box.Store) ([]string, error) {
	boxes, err := s.All()
	if errors.Is(err, box.ErrUnreadable) {
		s.Notef("what boxes know of each other stays: %v", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var told []string
	var errs []error
	for _, b := range boxes {
		if !Named(b) {
			continue
		}
		line, err := NamesDrift(s, b, boxes)
		if err == nil && line != "" {
			told = append(told, line)
			err = HostsFile(s, b, boxes).Write()
		}
		errs = append(errs, err)
	}
	return told, errors.Join(errs...)
}

// NamesDrift returns a line about the hosts file of a box if the file does not match boxes; "" if the file does.
func NamesDrift(s *box.Store, b *box.Box, boxes []*box.Box) (string, error) {
	want := HostsFile(s, b, boxes)
	written, err := want.IsWritten()
	if err != nil {
		return "", fmt.Errorf("reading the hosts file of box %s: %w", b.Name, err)
	}
	if written {
		return "", nil
	}
	return fmt.Sprintf("the hosts file of box %s does not name the boxes on %s as they are",
		b.Name, b.Profile.Network.Bridge), nil
}

// Resolvers is the configuration of name resolution in a box.
type Resolvers struct {
	Servers []netip.Addr
	Search  []string
	File    string // a complete resolv.conf with more settings; "": Servers and Search are all
	Unknown bool   // the host has no server for the box: a reason to warn, as the box may not need names
}

// LookResolvers chooses name servers: the profile's; in host mode the servers of the host's resolv.conf, even
// 127.0.0.53; on a bridge the host's upstream servers.
func LookResolvers(p profiles.Profile) (Resolvers, error) {
	n := p.Network
	switch {
	case len(n.DNS) > 0:
		return Resolvers{Servers: n.DNS, Search: n.Search}, nil
	case n.Mode == profiles.NoneMode:
		return Resolvers{}, nil
	case n.Mode == profiles.HostMode && len(n.Search) == 0:
		text, err := files.ReadIfThere("/etc/resolv.conf")
		return Resolvers{File: text}, err
	}
	host, err := resolvers.OfHost()
	if len(n.Search) > 0 {
		host.Search = n.Search
	}
	return Resolvers{Servers: host.Servers, Search: host.Search, Unknown: err == nil && len(host.Servers) == 0}, err
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
			return set, "the name servers of box " + b.Name + " are not those that its host has now", nil
		}
	}
	return set, "", nil
}
