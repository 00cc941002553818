package launcher

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// Boxes of one bridge find each other by name through their hosts files: there is no name server to run, to reach, or
// to fail. Each file is bound into its box and written over in place as boxes come and go, under the network's lock.

// neighbour is a box as the others on its bridge know it.
type neighbour struct {
	Addr  netip.Addr
	Names []string // the box's own comes first
}

// neighbours gives, of boxes, the others that run on b's bridge, by name. One that has crashed is none: its address may
// be another's by now. A host name that is also the name of one of these boxes is left to that one.
func neighbours(b *Box, boxes []*Box) []neighbour {
	if !b.bridged() {
		return nil
	}
	taken := []string{b.Name, b.Profile.Hostname}
	var here []*Box
	for _, other := range boxes {
		if other.Name != b.Name && other.Profile.Network.Bridge == b.Profile.Network.Bridge && other.named() {
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

// named says whether others find the box by its name: it is on a bridge, and runs, or would in a dry run.
func (b *Box) named() bool { return b.bridged() && (b.foreseen || b.Phase == Running && b.alive()) }

// namesOf gives a host name, and its first part where it has a domain.
func namesOf(hostname string) []string {
	names := []string{hostname}
	if short, _, ok := strings.Cut(hostname, "."); ok {
		names = append(names, short)
	}
	return names
}

// hostsOf gives the hosts file of a box among boxes.
func hostsOf(b *Box, boxes []*Box) string {
	own := namesOf(b.Profile.Hostname)
	if !slices.Contains(own, b.Name) {
		own = append(own, b.Name)
	}
	return hosts(own, b.Addr, neighbours(b, boxes))
}

// tellNames has every box know the others on its bridge as they are, and gives a line for each whose file was not
// right. While there is a box that nobody can read, they stay as they are. The caller holds the network's lock.
func (s *Store) tellNames() ([]string, error) {
	boxes, err := s.boxes()
	if errors.Is(err, errUnreadable) {
		s.notef("what boxes know of each other stays: %v", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var told []string
	var errs []error
	for _, b := range boxes {
		if !b.named() {
			continue
		}
		line, err := s.namesDrift(b, boxes)
		if err == nil && line != "" {
			told = append(told, line)
			err = confFile{Content: hostsOf(b, boxes), Mode: 0o644}.write(s.hosts(b.Name))
		}
		errs = append(errs, err)
	}
	return told, errors.Join(errs...)
}

// namesDrift says where the hosts file of a box is not as it should be among boxes; "" when it is.
func (s *Store) namesDrift(b *Box, boxes []*Box) (string, error) {
	have, err := readIfThere(s.hosts(b.Name))
	if err != nil {
		return "", fmt.Errorf("reading the hosts file of box %s: %w", b.Name, err)
	}
	if have == hostsOf(b, boxes) {
		return "", nil
	}
	return fmt.Sprintf("the hosts file of box %s does not name the boxes on %s as they are", b.Name, b.Profile.Network.Bridge), nil
}

// hosts is the file that is bound over a box's /etc/hosts.
func (s *Store) hosts(name string) string { return filepath.Join(s.confDir(name), "hosts") }

// resolving is what a box asks for names.
type resolving struct {
	Servers []netip.Addr
	Search  []string
	File    string // a whole resolv.conf that says more than these; "" where they say it all
}

// resolvers gives what the box asks for names: what the profile says; in the host's network what the host asks, be it
// on 127.0.0.53; on a bridge the servers behind that. Where those cannot be found a warning is all: the box may not
// need names, and there are no servers that would do everywhere.
func (s *Store) resolvers(p profiles.Profile) (resolving, error) {
	n := p.Network
	switch {
	case len(n.DNS) > 0:
		return resolving{Servers: n.DNS, Search: n.Search}, nil
	case n.Mode == profiles.NoneMode:
		return resolving{}, nil
	case n.Mode == profiles.HostMode && len(n.Search) == 0:
		text, err := readIfThere("/etc/resolv.conf")
		return resolving{File: text}, err
	}
	host, err := netsetup.HostResolvers()
	if err != nil {
		return resolving{}, err
	}
	if len(host.Servers) == 0 {
		s.notef("%s: warning: the host's name servers are unknown, names will not resolve in the box; hint: set network.dns", p.Name)
	}
	if len(n.Search) > 0 {
		host.Search = n.Search
	}
	return resolving{Servers: host.Servers, Search: host.Search}, nil
}
