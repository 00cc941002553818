package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"boxrun/netsetup/rules"
)

// State is all rules of the host at one moment: the rules of iptables in both backends, as the kernel obeys both, and
// the rules of native nftables.
type State struct {
	Backend string       // of boxrun's iptables: rules.NFT or rules.Legacy
	Native  bool         // native nftables could be looked at: nft is installed, or there are none
	tables  rules.Tables // of both families
	nft     nftRules
	texts   *sync.Map // what Text has looked up
}

// Read reads the rules and changes nothing. The error wraps rules.ErrNoIptables where iptables is not installed. Where
// ip6tables, nft, or the iptables of the other backend, is not installed, its rules are left out.
func Read() (State, error) {
	used, err := readUsed()
	if err != nil {
		return State{}, err
	}
	return Beside(rules.Memory{}, used...)
}

// readUsed reads the rules of the backend in use: of iptables, and of ip6tables where installed.
func readUsed() (all []rules.Tables, err error) {
	if _, err := rules.Backend("iptables"); err != nil {
		return nil, err
	}
	for _, tool := range []string{"iptables", "ip6tables"} {
		used, err := rules.Save(tool, "-c")
		if errors.Is(err, exec.ErrNotFound) && tool != "iptables" {
			continue
		}
		if err := ignoreIncompatible(err); err != nil {
			return nil, err
		}
		all = append(all, used)
	}
	return all, nil
}

// Beside is Read where the rules of the backend in use were read before: the tables of iptables, and of ip6tables or not. What nft
// says is taken from a Memory, or kept there.
func Beside(kept rules.Memory, used ...rules.Tables) (State, error) {
	s := State{texts: new(sync.Map)}
	for i, used := range used {
		tool := []string{"iptables", "ip6tables"}[i]
		backend, err := rules.Backend(tool)
		if err != nil {
			return s, err
		}
		s.Backend = cmp.Or(s.Backend, backend)
		other, err := rules.SaveOther(tool, "-c")
		if err := ignoreIncompatible(err); err != nil {
			return s, err
		}
		if backend != rules.NFT {
			used, other = other, used
		}
		s.tables = slices.Concat(s.tables, used, other)
	}
	var err error
	s.nft, s.Native, err = readNFT(kept)
	return s, err
}

// Rivals returns the rules without what decides nothing while boxrun's rules are in place: rules of boxrun, and rules of others
// in the chains of iptables where boxrun's come first. Of nat all rules are left where others translate as well.
func (s State) Rivals() State {
	translates := s.Others().translates()
	var left rules.Tables
	for _, t := range s.tables {
		first := []string{"FORWARD"} // where boxrun's rules are asked first, and decide
		if t.Other() || t.Name != "filter" {
			first = nil
		}
		switch others := t.OfOthers(first...); {
		case t.Name == "nat" && translates:
			left = append(left, t)
		case others == nil, !t.Other() && t.Name == "nat":
		default:
			left = append(left, others)
		}
	}
	s.tables = left
	return s
}

// Others returns the rules without those of boxrun.
func (s State) Others() State {
	var left rules.Tables
	for _, t := range s.tables {
		if others := t.OfOthers(); others != nil {
			left = append(left, others)
		}
	}
	s.tables = left
	return s
}

// translates reports whether any rule may translate the destination of a packet.
func (s State) translates() bool {
	return s.nft.translates ||
		slices.ContainsFunc(s.tables, func(t *rules.Table) bool { return t.Name == "nat" && t.Translates() })
}

// None reports whether there are no rules at all.
func (s State) None() bool { return len(s.tables) == 0 && len(s.nft.base) == 0 }

// of returns the tables that a packet meets.
func (s State) of(p Packet) rules.Tables {
	return slices.DeleteFunc(slices.Clone(s.tables), func(t *rules.Table) bool {
		return strings.HasPrefix(t.Program, "ip6") != p.six()
	})
}

// ignoreIncompatible drops the error of a table that iptables cannot show: nft shows the table.
func ignoreIncompatible(err error) error {
	if errors.Is(err, rules.ErrIncompatible) {
		return nil
	}
	return err
}

// Mixed says how many rules, boxrun's and others', there are in the backend of iptables that boxrun does not use: text
// for a person, "" where there are none. The kernel obeys both backends.
func (s State) Mixed() string {
	ours, others, other := 0, 0, ""
	for _, t := range s.tables {
		if !t.Other() {
			continue
		}
		_, backend, _ := strings.Cut(t.Program, "-")
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				if other = backend; rules.Ours(t.Command(c.Name, r)) {
					ours++
				} else {
					others++
				}
			}
		}
	}
	switch {
	case ours > 0:
		return fmt.Sprintf("%d of boxrun and %d of others in the %s backend", ours, others, other)
	case others > 0:
		return fmt.Sprintf("%d of others in the %s backend", others, other)
	}
	return ""
}

// managers are programs with rules of their own, and how the names of their chains begin.
func managers() []struct{ prefix, name string } {
	return []struct{ prefix, name string }{
		{"DOCKER", "Docker"}, {"ufw-", "ufw"}, {"KUBE-", "Kubernetes"}, {"NETAVARK", "podman"}, {"CNI-", "CNI portmap"},
		{"LIBVIRT_", "libvirt"}, {"f2b-", "fail2ban"}, {"INPUT_ZONES", "firewalld"}, {"FORWARD_direct", "firewalld"},
	}
}

// Managers returns the names of the programs with chains on the host: Docker, ufw, firewalld and others.
func (s State) Managers() []string {
	var found []string
	for _, m := range managers() {
		has := slices.ContainsFunc(s.tables, func(t *rules.Table) bool {
			return slices.ContainsFunc(t.Chains, func(c *rules.Chain) bool { return strings.HasPrefix(c.Name, m.prefix) })
		})
		if has && !slices.Contains(found, m.name) {
			found = append(found, m.name)
		}
	}
	if slices.Contains(s.nft.tables, "firewalld") && !slices.Contains(found, "firewalld") {
		found = append(found, "firewalld")
	}
	return found
}

// Policy returns the policy of FORWARD in filter: DROP where either backend has it for either family, ACCEPT else.
func (s State) Policy() string {
	if slices.ContainsFunc(s.tables, func(t *rules.Table) bool { return t.Name == "filter" && t.Drops("FORWARD") }) {
		return "DROP"
	}
	return "ACCEPT"
}

// Translated returns how many connections boxrun's rules have sent to a box since the rules were made, by the first
// host port of each rule.
func (s State) Translated(box string) map[uint16]uint64 {
	counts := map[uint16]uint64{}
	for _, t := range s.tables {
		if t.Name != "nat" {
			continue
		}
		for _, r := range t.Rules(rules.DNATPrefix + box) {
			for _, m := range r.Matches {
				if spans := parseSpans(m.Value()); m.Name == "--dport" && len(spans) > 0 {
					counts[uint16(spans[0].first)] += r.Packets
				}
			}
		}
	}
	return counts
}

// Rules returns, as typed, the rules of others for which keep returns true. The chains of a table come sorted.
func (s State) Rules(keep func(command string) bool) []string {
	var found []string
	for _, t := range s.tables {
		for _, c := range t.Sorted() {
			for _, r := range c.Rules {
				if command := t.Command(c.Name, r); !rules.Ours(command) && keep(command) {
					found = append(found, command)
				}
			}
		}
	}
	return found
}
