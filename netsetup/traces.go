package netsetup

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/lan"
	"boxrun/netsetup/leases"
	"boxrun/netsetup/routing"
	"boxrun/netsetup/rules"
)

// Traces is everything in the host's network with boxrun's name. Traces are found by the names alone, so a host can be
// cleared of boxrun when all records are lost.
type Traces struct {
	Rules     []Trace  // of iptables, in both of its backends, and of ip6tables
	Bridges   []string // devices made by boxrun
	Guarded   []string // devices of others with rules of boxrun's
	Leases    []Reservation
	Lookups   []routing.Owned // routing rules
	Routes    []routing.Route
	Unmanaged []Unmanaged // files for managers of devices
}

// Trace is a rule or a chain of boxrun's.
type Trace struct {
	Owner string // host, or the name of a bridge or box
	Tool  string // iptables, ip6tables, or the iptables of the other backend
	Table string
	Chain string
	Spec  string // "" for the chain itself
}

// String returns the rule as typed.
func (t Trace) String() string {
	if t.Spec == "" {
		return fmt.Sprintf("%s -t %s -N %s", t.Tool, t.Table, t.Chain)
	}
	return fmt.Sprintf("%s -t %s -A %s %s", t.Tool, t.Table, t.Chain, t.Spec)
}

// guards reports whether the trace is a rule for a bridge: each bridge has a rule in the chain of guards.
func (t Trace) guards() bool { return t.Chain == chainGuard && t.Spec != "" }

// FindTraces looks for everything with boxrun's name. It never writes.
func FindTraces(k *Kernel) (Traces, error) {
	var found Traces
	k.Reread()
	if _, err := rules.Backend(string(v4)); err != nil {
		return found, err
	}
	for _, f := range families() {
		have, haveErr := k.rules(f)
		other, otherErr := rules.SaveOther(string(f)) // an administrator may have switched with boxes up
		if err := cmp.Or(haveErr, otherErr); err != nil {
			return found, err
		}
		found.Rules = slices.Concat(found.Rules, tracesAmong(have), tracesAmong(other))
		facts, err := k.routing(f)
		if err != nil {
			return found, err
		}
		lookups, routes := facts.Owned()
		found.Lookups, found.Routes = append(found.Lookups, lookups...), append(found.Routes, routes...)
	}
	found.Unmanaged = slices.DeleteFunc(tracedManagers(), func(u Unmanaged) bool { return u.Way }) // those go with their ways
	var bridgesErr, leasesErr error
	found.Leases, leasesErr = reservationsBelow(leases.CNI)
	found.Bridges, found.Guarded, bridgesErr = k.tracedBridges(found.Rules)
	return found, errors.Join(bridgesErr, leasesErr)
}

// tracesAmong returns boxrun's chains and rules: chains first, each followed by its rules. Tables and chains come
// sorted.
func tracesAmong(have rules.Tables) []Trace {
	var found []Trace
	byName := func(a, b *rules.Table) int { return strings.Compare(a.Name, b.Name) }
	for _, t := range slices.SortedStableFunc(slices.Values(have), byName) {
		for _, c := range t.Sorted() {
			ours := strings.HasPrefix(c.Name, rules.ChainPrefix)
			if ours {
				found = append(found, Trace{chainOwner(c.Name), t.Program, t.Name, c.Name, ""})
			}
			for _, rule := range c.Rules {
				if ours || rule.Ours() {
					found = append(found, Trace{ruleOwner(c.Name, rule), t.Program, t.Name, c.Name, rule.Text})
				}
			}
		}
	}
	return found
}

// ruleOwner goes by the comment of a rule and, where the comment is not boxrun's, by the chain.
func ruleOwner(chain string, rule rules.Rule) string {
	switch {
	case rule.Marked():
		return ownerOf(rule.Comment())
	case strings.HasPrefix(chain, rules.ChainPrefix):
		return chainOwner(chain)
	}
	return chainOwner(rule.Target)
}

// chainOwner returns the box of a box's chain, the bridge of a bridge's chain, and host for any other chain.
func chainOwner(chain string) string {
	if box, ok := boxOf(chain); ok {
		return box
	}
	if bridge, ok := strings.CutPrefix(chain, prefixWay); ok {
		return bridge
	}
	return "host"
}

// boxOf returns the name of the box of a chain, and false for chains of others and for chains of all boxes.
func boxOf(chain string) (string, bool) {
	for _, prefix := range []string{prefixDNAT, prefixFilter, prefixStray} {
		if name, ok := strings.CutPrefix(chain, prefix); ok {
			return name, true
		}
	}
	return "", false
}

// tracedBridges returns the devices with boxrun's alias, and the devices of others with rules of boxrun's.
func (k *Kernel) tracedBridges(traces []Trace) (made, guarded []string, err error) {
	links, err := dump.Links(k.link)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the links: %w", err)
	}
	for _, l := range links {
		name := l.Attrs().Name
		switch {
		case lan.IsWay(l): // goes with the boxes on its LAN
		case strings.HasPrefix(l.Attrs().Alias, rules.MarkPrefix):
			made = append(made, name)
		case slices.ContainsFunc(traces, func(t Trace) bool { return t.guards() && t.Owner == name }):
			guarded = append(guarded, name)
		}
	}
	return made, guarded, nil
}

// Names returns the bridges of the traces, also bridges that are gone.
func (t Traces) Names() []string {
	names := slices.Concat(t.Bridges, t.Guarded)
	for _, r := range t.Rules {
		if r.guards() {
			names = append(names, r.Owner)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Without returns the traces of all but the named owners. Traces in the other backend than iptables' stay.
func (t Traces) Without(owners []string) Traces {
	known := func(name string) bool { return slices.Contains(owners, name) }
	inUse := func(r Trace) bool { return known(r.Owner) && slices.Contains([]family{v4, v6}, family(r.Tool)) }
	return Traces{
		Rules:   slices.DeleteFunc(slices.Clone(t.Rules), inUse),
		Bridges: slices.DeleteFunc(slices.Clone(t.Bridges), known),
		Guarded: slices.DeleteFunc(slices.Clone(t.Guarded), known),
		Leases:  slices.DeleteFunc(slices.Clone(t.Leases), func(r Reservation) bool { return known(r.box()) }),
		Lookups: slices.DeleteFunc(slices.Clone(t.Lookups), func(l routing.Owned) bool { return known(l.Owner) }),
		Routes: slices.DeleteFunc(slices.Clone(t.Routes), func(r routing.Route) bool {
			leads := func(l routing.Owned) bool { return known(l.Owner) && l.Rule.Table == r.Table }
			return slices.ContainsFunc(t.Lookups, leads)
		}),
		Unmanaged: slices.DeleteFunc(slices.Clone(t.Unmanaged), func(u Unmanaged) bool { return known(u.Bridge) }),
	}
}

// lookups returns the change that deletes the routing rules and routes.
func (t Traces) lookups() routing.Change {
	c := routing.Change{DeleteRoutes: t.Routes}
	for _, l := range t.Lookups {
		c.Delete = append(c.Delete, l.Rule)
	}
	return c
}

// PortsOn returns the devices on a bridge: who runs there would lose the network together with the bridge.
func PortsOn(k *Kernel, bridge string) ([]string, error) {
	link, err := k.linkByName(bridge)
	if link == nil || err != nil {
		return nil, err
	}
	return k.ports(link)
}

// Commands returns what a person would type to remove the traces.
func (t Traces) Commands() []string {
	lines := typed(t.forced())
	for _, b := range t.Guarded {
		lines = append(lines, Setting{deviceKey(b, "route_localnet"), "0"}.typed())
	}
	for _, tool := range t.tools() {
		e := t.removal(tool)
		for _, table := range e.tables() {
			for _, line := range e.lines[table] {
				lines = append(lines, fmt.Sprintf("%s -w -t %s %s", tool, table, line))
			}
		}
	}
	rerouted, _ := t.lookups().Commands()
	lines = append(lines, rerouted...)
	for _, b := range t.Bridges {
		lines = append(lines, "ip link del "+b)
	}
	for _, s := range t.files() {
		_, down := s.commands()
		lines = append(lines, down...)
	}
	return lines
}

// Remove removes the traces, past errors. The guard of the host's 127.0.0.1 goes after the setting that opened
// 127.0.0.1.
func (t Traces) Remove(k *Kernel) error {
	var errs []error
	for _, s := range t.forced() {
		errs = append(errs, ignoreAbsent(writeSysctl(s.Key, s.Value)))
	}
	for _, b := range t.Guarded {
		// The earlier value is unknown, so this is the kernel's default.
		errs = append(errs, ignoreAbsent(writeSysctl(deviceKey(b, "route_localnet"), "0")))
	}
	for _, tool := range t.tools() {
		e := t.removal(tool)
		errs = append(errs, k.restore(tool, e.input(e.tables())))
	}
	errs = append(errs, k.reroute(t.lookups()))
	for _, b := range t.Bridges {
		link, err := k.linkByName(b)
		if link != nil && err == nil {
			err = k.link.LinkDel(link)
		}
		errs = append(errs, err)
	}
	for _, s := range t.files() {
		errs = append(errs, s.undo(k))
	}
	return errors.Join(errs...)
}

// OfIPv6 reports whether boxrun's part of the host for IPv6 is among the traces.
func (t Traces) OfIPv6() bool {
	return slices.ContainsFunc(t.Rules, func(r Trace) bool { return family(r.Tool) == v6 && r.Owner == "host" })
}

// forced returns the settings by which boxes of IPv6 had the host forward, with the kernel's default: the earlier values
// are unknown, and nobody but boxrun uses the settings.
func (t Traces) forced() []Setting {
	if !t.OfIPv6() {
		return nil
	}
	var settings []Setting
	for _, s := range forceForwarding() {
		settings = append(settings, Setting{s.Key, "0"})
	}
	return settings
}

// files returns the steps whose work is files.
func (t Traces) files() []step { return append(stepOfEach(t.Leases), stepOfEach(t.Unmanaged)...) }

func (t Traces) tools() []string {
	var tools []string
	for _, r := range t.Rules {
		tools = append(tools, r.Tool)
	}
	return slices.Compact(tools)
}

// removal returns the lines to remove the rules of a tool: jumps first, as a chain can go when no rule leads there.
func (t Traces) removal(tool string) edits {
	var e edits
	for _, verb := range []string{"-D", "-F", "-X"} {
		for _, r := range t.Rules {
			ours := strings.HasPrefix(r.Chain, rules.ChainPrefix)
			switch {
			case r.Tool != tool:
			case verb == "-D" && !ours:
				e.add(r.Table, "-D %s %s", r.Chain, r.Spec)
			case verb != "-D" && ours && r.Spec == "":
				e.add(r.Table, "%s %s", verb, r.Chain)
			}
		}
	}
	return e
}

// tables returns the edited tables: tables that publish before tables that protect.
func (e *edits) tables() []string {
	order := tableOrder()
	for table := range e.lines {
		if !slices.Contains(order, table) {
			order = append(order, table)
		}
	}
	slices.Reverse(order)
	return order
}
