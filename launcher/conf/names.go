package conf

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/netsetup"
	"boxrun/netsetup/six"
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
	taken := map[string]bool{b.Name: true, b.Profile.Hostname: true}
	var here []*box.Box
	for _, other := range boxes {
		if other.Name != b.Name && other.Profile.Network.Bridge == b.Profile.Network.Bridge && Named(other) {
			here = append(here, other)
			taken[other.Name] = true
		}
	}
	list := make([]neighbour, len(here))
	for i, other := range here {
		list[i] = neighbour{Addr: other.Addr, Names: []string{other.Name}}
		for _, name := range namesOf(other.Profile.Hostname) {
			if !taken[name] {
				list[i].Names = append(list[i].Names, name)
				taken[name] = true
			}
		}
	}
	subnet6 := box.Subnet6(b.Profile.Network) // of the bridge, and so of all boxes here
	for i, other := range here {
		if a := six.Beside(other.Profile.Network.Subnet, subnet6, other.Addr); a.IsValid() {
			list = append(list, neighbour{Addr: a, Names: list[i].Names})
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

// HostsOf returns the content of b's hosts file, naming the host and the neighbours of b among boxes.
func HostsOf(b *box.Box, boxes []*box.Box) string {
	own := namesOf(b.Profile.Hostname)
	if !slices.Contains(own, b.Name) {
		own = append(own, b.Name)
	}
	others := append(theHost(b), neighbours(b, boxes)...)
	if a := b.Addr6(); a.IsValid() {
		others = append([]neighbour{{a, own}}, others...)
	}
	return hostsText(own, b.Addr, others)
}

// theHost returns the host as known to a box, under a name that Podman also has: at the gateway of the box's bridge, or
// at the loopback of the host's network. A box without a network knows no host.
func theHost(b *box.Box) []neighbour {
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	switch b.Profile.Network.Mode {
	case profiles.NoneMode, profiles.LANMode: // the host's address on the LAN may change under the box
		return nil
	case profiles.BridgeMode:
		addr = netsetup.Network{Subnet: b.Profile.Network.Subnet}.Gateway()
	}
	return []neighbour{{addr, []string{"boxrun.host", "host.containers.internal"}}}
}

// TellNames rewrites the hosts files of all boxes to match the boxes running now, and returns a line for each file
// found wrong. If any box's record is unreadable, the files stay as they are, with a note. The caller holds the
// network's lock.
func TellNames(s *box.Store) ([]string, error) {
	boxes, err := s.Glance()
	if errors.Is(err, box.ErrUnreadable) {
		s.Notef("what boxes know of each other stays: %v", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	boxes = slices.DeleteFunc(boxes, func(b *box.Box) bool {
		b.Foreseen = Named(b) // a look at each process is enough for all hosts files
		return !b.Foreseen
	})
	var told []string
	var errs []error
	for _, b := range boxes {
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
	return cmp.Or(want.OtherMode(), fmt.Sprintf("the hosts file of box %s does not name the boxes on %s as they are",
		b.Name, b.Profile.Network.Bridge)), nil
}
