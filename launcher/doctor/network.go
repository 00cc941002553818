package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/network"
	"boxrun/launcher/say"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/rules"
	"boxrun/profiles"
)

// networkLooks returns the looks at what boxrun sets up for all boxes, and at other programs that change the host's
// network.
func (d *doctor) networkLooks() []look {
	const area = "network"
	return []look{
		{area, "in place", d.shared},
		one(area, "conflist", d.conflists),
		one(area, "subnet", d.overlaps),
		{area, "iptables", d.rulesOfOthers},
		{area, "firewalld", d.firewalld},
		one(area, "br_netfilter", d.bridgeNetfilter),
		one(area, "over reboots", d.setup),
	}
}

// topic is a part of a plan with a check of its own.
type topic struct {
	name string
	good string // what the check reports without drift
	why  string
	part func(netsetup.Plan) netsetup.Plan
}

// sharedTopics divides the plans of the host and of the bridges into topics. beforeUp relies on the order of the
// first three.
func sharedTopics() []topic {
	return []topic{
		{"modules", "loaded, or built in", "rules and bridges are made of them",
			func(p netsetup.Plan) netsetup.Plan { return netsetup.Plan{Modules: p.Modules} }},
		{"ip_forward", "1", "without it nothing gets into boxes or out of them",
			func(p netsetup.Plan) netsetup.Plan { return netsetup.Plan{Sysctls: p.Sysctls} }},
		{"rp_filter", "loose, or off, where boxes' packets pass", "strict filtering drops what comes in by one interface and is answered by another",
			func(p netsetup.Plan) netsetup.Plan { return netsetup.Plan{ReversePath: p.ReversePath} }},
		{"bridge", "up, with its address", "boxes are connected by it",
			func(p netsetup.Plan) netsetup.Plan { return netsetup.Plan{Device: p.Device} }},
		{"zone", "one that forwards, where firewalld runs", "firewalld rejects what boxes send from a bridge that is in none of its zones",
			func(p netsetup.Plan) netsetup.Plan { return netsetup.Plan{Zone: p.Zone} }},
		{"conflist file", "as written", "Apptainer finds the bridge by it",
			func(p netsetup.Plan) netsetup.Plan { return netsetup.Plan{Conflist: p.Conflist} }},
		{"offload", "off on the bridges", "some network cards drop forwarded packets whose checksums were left to them: connections open and then hang",
			func(p netsetup.Plan) netsetup.Plan { return netsetup.Plan{Features: p.Features} }},
		{"masquerade", "in place", "answers to what boxes send come back to the host's address only; published ports are translated in the same table",
			func(p netsetup.Plan) netsetup.Plan { return rulesOf(p, "nat") }},
		{"mss", "in place", "on a path with a smaller MTU connections open and then hang", func(p netsetup.Plan) netsetup.Plan { return rulesOf(p, "mangle") }},
		{"forward", "BOXRUN-FWD comes first", "other rules, such as Docker's policy DROP, decide about packets of boxes",
			func(p netsetup.Plan) netsetup.Plan { return rulesOf(p, "filter") }},
		{"guard", "in place", "without the rule boxes reach the host's own 127.0.0.1; without the sysctl 127.0.0.1 does not reach boxes",
			func(p netsetup.Plan) netsetup.Plan {
				guard := rulesOf(p, "raw")
				guard.Localnet = p.Localnet
				return guard
			}},
	}
}

// rulesOf returns the part of p with the chains and rules of a table.
func rulesOf(p netsetup.Plan, table string) netsetup.Plan {
	return netsetup.Plan{
		Owner:  p.Owner,
		Chains: slices.DeleteFunc(slices.Clone(p.Chains), func(c netsetup.Chain) bool { return c.Table != table }),
		Rules:  slices.DeleteFunc(slices.Clone(p.Rules), func(r netsetup.Rule) bool { return r.Table != table }),
	}
}

// shared compares everything boxes share on the host with the plans applied for them. Before the first up there are
// no plans, and the checks say what up will set.
func (d *doctor) shared(context.Context) []Check {
	k, err := network.OpenKernel()
	if err != nil {
		return []Check{broken(err)}
	}
	defer k.Close()
	plans, err := sharedPlans(d.l)
	if err != nil {
		return []Check{broken(err)}
	}
	if len(plans) == 0 {
		return beforeUp(k)
	}
	var checks []Check
	for _, t := range sharedTopics() {
		checks = append(checks, t.check(k, plans))
	}
	return checks
}

// sharedPlans returns the plans of the host and of the bridges as they were applied. Before the first up the list is
// empty.
func sharedPlans(l *launcher.Launcher) ([]netsetup.Plan, error) {
	files, err := filepath.Glob(l.Path("bridges", "*.json"))
	if err != nil {
		return nil, err
	}
	var plans []netsetup.Plan
	for _, file := range append([]string{network.HostFile(l.Store)}, files...) {
		var p netsetup.Plan
		err := box.ReadJSON(file, &p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// check compares the topic's part of all plans with the host.
func (t topic) check(k *netsetup.Kernel, plans []netsetup.Plan) Check {
	var drift, kept []string
	for _, p := range plans {
		part := t.part(p)
		lines, err := part.Drift(k)
		if err != nil {
			return broken(err).named(t.name)
		}
		drift = append(drift, lines...)
		if part.Features == nil {
			continue
		}
		names, err := part.Features.Kept(k)
		if err != nil {
			return broken(err).named(t.name)
		}
		kept = append(kept, names...)
	}
	return t.judge(drift, kept).named(t.name)
}

// judge makes the check from drift, the lines of what is out of place, and kept, the devices whose drivers keep
// offload on. drift comes first.
func (t topic) judge(drift, kept []string) Check {
	switch {
	case slices.ContainsFunc(drift, func(line string) bool { return !netsetup.Overtaken(line) }):
		return fail(t.why, network.MendCommand, "%s", strings.Join(drift, "; "))
	case len(drift) > 0: // only other rules before boxrun's: the checks of each box say whether they are in its way
		return warn(t.why, network.MendCommand, "%s", strings.Join(drift, "; "))
	case len(kept) > 0:
		return warn(t.why, "", "a driver does not let it be turned off: %s", strings.Join(kept, ", "))
	}
	return pass("%s", t.good)
}

// beforeUp returns the checks for a host without boxes. They pass, and say what the first up will set.
func beforeUp(k *netsetup.Kernel) []Check {
	var checks []Check
	for _, t := range sharedTopics()[:3] {
		drift, err := t.part(netsetup.Host()).Drift(k)
		c := pass("as boxes need it")
		switch {
		case err != nil:
			c = broken(err)
		case len(drift) > 0:
			c = pass("%s; up sets it", strings.Join(drift, "; "))
		}
		checks = append(checks, c.named(t.name))
	}
	return checks
}

// conflists reads every file Apptainer reads to find the network of a box. Apptainer fails to start the box if a file
// cannot be read that sorts before the file of the network (LoadConfList in libcni).
func (d *doctor) conflists(context.Context) Check {
	files, err := filepath.Glob(d.l.Path("cni", "*.conflist"))
	if err != nil {
		return broken(err)
	}
	for _, file := range files {
		if _, err := readConflist(file); err != nil {
			return fail("Apptainer gives up on a directory with such a file", network.MendCommand, "%v", err)
		}
	}
	switch len(files) {
	case 0:
		return pass("none yet: up writes one for each bridge")
	case 1:
		return pass("%s is valid", files[0])
	}
	return pass("%d in %s are valid", len(files), d.l.Path("cni"))
}

// conflist holds the keys boxrun reads of a CNI network's configuration.
type conflist struct {
	Name    string
	Plugins []struct{ Type, Bridge string }
}

// readConflist reads a conflist. A file without a name or without plugins is an error, as for Apptainer.
func readConflist(file string) (conflist, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return conflist{}, err
	}
	var c conflist
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	if c.Name == "" || len(c.Plugins) == 0 {
		return c, fmt.Errorf("%s: no name, or no plugins", file)
	}
	return c, nil
}

// overlaps looks for subnets on the host that overlap the subnets of boxes, or the default subnet where there are no
// boxes.
func (d *doctor) overlaps(context.Context) Check {
	var texts []string
	for _, n := range d.networks() {
		if err := netsetup.Overlap(n); err != nil {
			return fail("packets for one of the two go to the other",
				"choose another network.subnet and network.bridge in the profiles", "%v", err)
		}
		texts = append(texts, fmt.Sprintf("%v of %s", n.Subnet, n.Bridge))
	}
	return pass("%s overlaps nothing", strings.Join(texts, ", "))
}

// networks returns the networks of the boxes without duplicates. Where no box is on a bridge, the default network is
// returned.
func (d *doctor) networks() []netsetup.Network {
	var networks []netsetup.Network
	for _, b := range d.boxes {
		if n := network.Of(d.l.Store, b); b.Bridged() && !slices.Contains(networks, n) {
			networks = append(networks, n)
		}
	}
	if len(networks) == 0 {
		networks = append(networks, network.Of(d.l.Store, &box.Box{Profile: profiles.Default()}))
	}
	return networks
}

// rulesOfOthers reports other programs that write firewall rules. The checks of each box say whether such rules are
// in its way.
func (d *doctor) rulesOfOthers(context.Context) []Check {
	f, err := d.firewall()
	if err != nil {
		if errors.Is(err, rules.ErrNoIptables) {
			return []Check{fail("boxes are connected by rules", "install the package iptables", "%v", err)}
		}
		return []Check{broken(err)}
	}
	checks := []Check{pass("%s", f.Version).named("iptables backend")}
	mixed := pass("none").named("rules in the other backend")
	if text := f.Mixed(); text != "" {
		mixed = warn("the kernel obeys both backends; programs and people see one of them",
			otherBackend(f)+"-save shows them; move them over, or change the backend: update-alternatives --config iptables", "%s", text).named(mixed.Name)
	}
	checks = append(checks, mixed)
	for _, name := range []string{"Docker", "ufw"} {
		checks = append(checks, d.manager(f, name))
	}
	return append(checks, d.outwards(f))
}

// otherBackend returns the name of the iptables command for the backend f does not use.
func otherBackend(f firewall.State) string {
	if f.Backend == "nft" {
		return "iptables-legacy"
	}
	return "iptables-nft"
}

// manager reports whether rules of the program name, a manager of the firewall, are on the host.
func (d *doctor) manager(f firewall.State, name string) Check {
	c := pass("no rules of it here")
	switch here := slices.Contains(f.Managers(), name); {
	case here && f.Policy() == "DROP":
		c = pass("its rules are there, with a policy of DROP in FORWARD; BOXRUN-FWD stands before them")
	case here:
		c = pass("its rules are there")
	}
	return c.named(strings.ToLower(name))
}

// firewalld reports how a running firewalld treats each bridge.
func (d *doctor) firewalld(context.Context) []Check {
	var checks []Check
	for _, n := range d.networks() {
		view, err := netsetup.LookFirewalld(n.Bridge)
		switch {
		case err != nil:
			checks = append(checks, broken(err))
		case view == nil:
			return []Check{pass("does not run")}
		case view.StrictPorts:
			checks = append(checks, fail("firewalld then rejects published ports that are not its own",
				"set StrictForwardPorts=no in /etc/firewalld/firewalld.conf, and \"firewall-cmd --reload\"",
				"StrictForwardPorts=yes in /etc/firewalld/firewalld.conf"))
		case view.Zone == "":
			checks = append(checks, pass("%s is in no zone", n.Bridge)) // with boxes on the bridge, "zone" has failed
		case view.Trusting:
			checks = append(checks, warn("boxes reach every port of this host", "boxrun host setup", "%s is in zone %s", n.Bridge, view.Zone))
		default:
			checks = append(checks, pass("%s is in zone %s", n.Bridge, view.Zone))
		}
	}
	return checks
}

// setup reports which files of "boxrun host setup" are on the host. None are needed, because up sets what boxes need.
// Other sysctl files that override the setup at boot are a warning.
func (d *doctor) setup(context.Context) Check {
	files, err := netsetup.SetupFiles(d.path(network.Etc))
	if err != nil {
		return broken(err)
	}
	if len(files) == 0 {
		return pass("nothing: up sets what boxes need each time; \"boxrun host setup\" has it set at boot")
	}
	overruled, err := netsetup.Overruled(d.root)
	if err != nil {
		return broken(err)
	}
	if len(overruled) > 0 {
		return warn("after a boot boxes that are enabled, and the host itself, do not have what the setup is for until an up sets it",
			"take the line out of that file", "%s", strings.Join(overruled, "; "))
	}
	return pass("%s", say.Listed(files, 4))
}

// outwards walks a packet from each bridge with a running box out of the host, and looks for rules that drop the
// packet. A rule with conditions unknown to boxrun is a warning.
func (d *doctor) outwards(f firewall.State) Check {
	const name = "other rules that drop"
	if !f.Native {
		return warn("rules of native nftables cannot be looked at", "install the package nftables", "nft is not installed").named(name)
	}
	out := "eth0"
	if e, err := d.external(); err == nil && e.Name != "" {
		out = e.Name
	}
	var blocked []string
	for _, n := range d.networks() {
		if !slices.ContainsFunc(d.boxes, func(b *box.Box) bool { return b.Bridged() && b.Alive() && b.Profile.Network.Bridge == n.Bridge }) {
			continue
		}
		o := f.Forwarded(firewall.Packet{In: n.Bridge, Out: out, Src: n.Gateway().Next(), Dst: somewhere(), Proto: "tcp", DPort: 443}, noTranslation())
		if o.Dropped {
			return dropped(o, n.Bridge).named(name)
		}
		blocked = append(blocked, o.Unsure...)
	}
	if len(blocked) > 0 {
		return warn("these look at what boxrun does not know, and may drop packets of boxes", "", "%s", say.Listed(blocked, 3)).named(name)
	}
	return pass("none in the way of boxes").named(name)
}

// bridgeNetfilter reports whether br_netfilter is loaded, the module that sends frames between boxes through
// iptables.
func (d *doctor) bridgeNetfilter(context.Context) Check {
	value, err := d.line("proc/sys/net/bridge/bridge-nf-call-iptables")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return pass("not loaded, and not needed")
	case err != nil:
		return broken(err)
	}
	return pass("loaded (bridge-nf-call-iptables = %s); boxes work with it and without", value)
}
