package netsetup

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/routing"
	"boxrun/netsetup/rules"

	"github.com/vishvananda/netlink"
)

// Answers is the step that makes the answers of a bridge's boxes leave by where the questions came in: marks of
// connections, routing rules and, where no table has the route, a table of routes. The step looks at the host's routing
// anew each time, and so follows addresses, rules and routes that come and go. On a host that sends all answers by a
// single way the step does nothing.
//
//	mangle  FORWARD     -o sbr0 -> BOXRUN-WAY-sbr0    CONNMARK, by the device and the address of the question
//	mangle  PREROUTING  -i sbr0                       CONNMARK --restore-mark, before the route is chosen
type Answers struct {
	Bridge string          `json:"bridge"`
	Subnet netip.Prefix    `json:"subnet"`
	Mask   uint32          `json:"mask"`  // the bits of marks that are boxrun's
	Found  routing.Answers `json:"found"` // as recorded, for the commands
}

func (a *Answers) String() string { return "ways of answers from " + a.Bridge }

// family returns the family of the answers.
func (a *Answers) family() family { return familyOf(a.Subnet.Addr()) }

// ruleset returns the rules that mark connections, and nothing but the names for no ways.
func (a *Answers) ruleset(ways []routing.Way) *ruleset {
	owner := rules.MarkPrefix + a.Bridge
	chain := Chain{Table: "mangle", Name: prefixWay + a.Bridge}
	for _, w := range ways {
		matches := fmt.Sprintf("-i %s -m conntrack --ctorigdst %s --ctdir ORIGINAL", w.Device, w.Addr)
		target := fmt.Sprintf("CONNMARK --set-xmark %#x/%#x", w.Mark, a.Mask)
		chain.Rules = append(chain.Rules, marked(owner, matches, target))
	}
	restore := fmt.Sprintf("CONNMARK --restore-mark --nfmask %#x --ctmask %#[1]x", a.Mask)
	return &ruleset{family: a.family(), owner: owner, chains: []Chain{chain}, rules: []Rule{
		{Table: "mangle", Chain: "FORWARD", First: true, Spec: marked(owner, "-o "+a.Bridge, chain.Name)},
		{Table: "mangle", Chain: "PREROUTING", First: true, Spec: marked(owner,
			fmt.Sprintf("-i %s -m connmark ! --mark 0x0/%#x", a.Bridge, a.Mask), restore)},
	}}
}

func (a *Answers) commands() (up, down []string) {
	up, down = routing.Change{Add: a.Found.Rules, AddRoutes: a.Found.Routes}.Commands()
	if len(a.Found.Ways) == 0 {
		return up, down
	}
	set, unset := a.ruleset(a.Found.Ways).commands()
	return append(up, set...), append(unset, down...)
}

func (a *Answers) record(k *Kernel) error {
	want, _, err := a.look(k)
	a.Found = want
	return err
}

// look returns what the host needs by now, and what to do about boxrun's rules and routes.
func (a *Answers) look(k *Kernel) (routing.Answers, routing.Change, error) {
	f, err := k.routing(a.family())
	if err != nil {
		return routing.Answers{}, routing.Change{}, err
	}
	want, err := f.Answers(a.Bridge, a.Subnet, a.Mask)
	return want, f.Change(a.Bridge, a.Subnet, want), err
}

// marks returns what to change about the rules that mark connections.
func (a *Answers) marks(k *Kernel, ways []routing.Way) (edits, error) {
	have, err := k.rules(a.family())
	if err == nil && len(ways) > 0 {
		return a.ruleset(ways).repair(k, have)
	}
	e := a.ruleset(nil).removal(have)
	if len(e.lines) > 0 {
		e.found = true
		e.note("chain mangle/%s is for ways that this host no longer has", prefixWay+a.Bridge)
	}
	return e, err
}

func (a *Answers) check(k *Kernel) ([]string, error) {
	want, change, err := a.look(k)
	if err != nil {
		return nil, err
	}
	e, err := a.marks(k, want.Ways)
	return append(change.Lines(), e.drift...), err
}

func (a *Answers) ensure(k *Kernel) error {
	want, change, err := a.look(k)
	if err != nil {
		return err
	}
	if err := k.reroute(change); err != nil {
		return err
	}
	e, err := a.marks(k, want.Ways)
	if err != nil || len(e.lines) == 0 {
		return err
	}
	return k.restore(string(a.family()), e.input(tableOrder()))
}

// undo goes by what is there: rules of routing for the bridge or its subnet, and rules with the bridge's mark.
func (a *Answers) undo(k *Kernel) error {
	delete(k.lists, a.family())
	f, err := k.routing(a.family())
	errs := []error{rulesets{a.ruleset(nil)}.undo(k), err}
	if err == nil {
		errs = append(errs, k.reroute(f.Change(a.Bridge, a.Subnet, routing.Answers{})))
	}
	return errors.Join(errs...)
}

// repairCommands returns the commands for what the host needs by now.
func (a *Answers) repairCommands(k *Kernel) ([]string, error) {
	want, change, err := a.look(k)
	if err != nil {
		return nil, err
	}
	e, err := a.marks(k, want.Ways)
	up, _ := change.Commands()
	return append(up, e.commands(a.ruleset(want.Ways))...), err
}

// routing returns the host's routing for a family, read or kept. Where all answers leave by a single way, two lists are read.
func (k *Kernel) routing(of family) (routing.Facts, error) {
	l, err := k.readLists(of)
	if err != nil || l.Plain() {
		return routing.Facts{}, err
	}
	if l.Addrs == nil {
		l.Addrs, err = dump.Addrs(k.link, nil, l.Family)
	}
	if err == nil && l.Links == nil {
		l.Links, err = dump.Links(k.link)
	}
	return routing.Read(*l), err
}

// readLists reads the routing rules and the routes of all tables, unless both are kept.
func (k *Kernel) readLists(of family) (*routing.Lists, error) {
	if have := k.lists[of]; have != nil {
		return have, nil
	}
	l := &routing.Lists{Family: of.inet()}
	var err error
	if l.Rules, err = dump.Rules(k.link, l.Family); err != nil {
		return l, fmt.Errorf("reading the routing rules: %w", err)
	}
	if l.Routes, err = dump.Routes(k.link, l.Family, &netlink.Route{}, netlink.RT_FILTER_TABLE); err != nil {
		return l, fmt.Errorf("reading the routes: %w", err)
	}
	k.lists[of] = l
	return l, nil
}

// reroute makes a change of boxrun's rules and routes.
func (k *Kernel) reroute(c routing.Change) error {
	clear(k.lists)
	return c.Apply(k.link)
}

// Astray asks the kernel for the way of answers of a box, and returns a line for each address whose answers leave
// neither by the device of the address nor as the host's own answers do. The marks are those that the rules set by now.
func (k *Kernel) Astray(bridge string, box netip.Addr, published func(netip.Addr) bool) ([]string, error) {
	f, err := k.routing(familyOf(box))
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, a := range f.Addresses() {
		if a.Device == bridge || !published(a.Addr) {
			continue
		}
		mark, markErr := k.mark(bridge, a.Addr)
		answer, err := routing.Leaves(k.link, box, bridge, mark)
		own, ownErr := routing.Leaves(k.link, a.Addr, "", 0)
		if err := errors.Join(markErr, err, ownErr); err != nil {
			return lines, err
		}
		if answer != own && answer != a.Device {
			lines = append(lines, fmt.Sprintf("what %s is asked on %s, it answers by %s, and the host itself by %s", box, a.Addr, answer, own))
		}
	}
	return lines, nil
}

// Unjudged returns a line for each routing rule that boxrun cannot plan the answers of a box by, at an address of either
// family.
func (k *Kernel) Unjudged(box netip.Addr) ([]string, error) {
	f, err := k.routing(familyOf(box))
	if err != nil {
		return nil, err
	}
	return f.Unjudged(), nil
}

// mark returns the mark that the kernel's rules set for questions for an address.
func (k *Kernel) mark(bridge string, addr netip.Addr) (mark uint32, err error) {
	have, err := k.rules(familyOf(addr))
	for _, r := range have.Rules("mangle", prefixWay+bridge) {
		if _, after, ok := strings.Cut(r.Text, "--set-xmark "); ok && strings.Contains(r.Text, " "+addr.String()+" ") {
			_, err = fmt.Sscanf(after, "0x%x", &mark)
		}
	}
	return mark, err
}
