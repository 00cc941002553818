package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/network"
	"boxrun/launcher/passage"
	"boxrun/launcher/say"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/routing"
	"boxrun/netsetup/rules"
	"boxrun/netsetup/site"
)

// networkLooks looks at what boxrun sets up for all boxes, and at other programs that change the host's network.
type networkLooks struct{ *facts }

func (l networkLooks) list() []look {
	const area = "network"
	return []look{
		{area: area, name: "in place", run: withKernel(l.store, l.shared)},
		one(area, "network files", l.conflists),
		one(area, "subnet", l.overlaps),
		one(area, "host's own settings", l.obstacles),
		{area: area, name: "iptables", run: l.rulesOfOthers},
		{area: area, name: "firewalld", run: l.firewalld},
		one(area, "br_netfilter", l.bridgeNetfilter),
		one(area, "settings at boot", l.setup),
	}
}

// shared compares everything boxes share on the host with the plans applied for them. Before the first up there are
// no plans, and the checks say what up will set.
func (l networkLooks) shared(k *netsetup.Kernel) []Check {
	plans, err := sharedPlans(l.store)
	if err != nil {
		return []Check{broken(err)}
	}
	if len(plans) == 0 {
		return beforeUp(k)
	}
	return checkTopics(k, sharedTopics(), plans)
}

// sharedPlans returns the plans of the host and of the bridges as they were applied. Before the first up the list is
// empty.
func sharedPlans(s *box.Store) ([]netsetup.Plan, error) {
	var plans []netsetup.Plan
	for _, file := range append([]string{network.HostFile(s), network.Host6File(s)}, s.Records("bridges/*.json")...) {
		p, err := network.ReadPlan(file)
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
func (l networkLooks) conflists(context.Context) Check {
	files, err := filepath.Glob(l.store.Path("cni", "*.conflist"))
	if err != nil {
		return broken(err)
	}
	for _, file := range files {
		if _, err := apptainer.ReadConflist(file); err != nil {
			return fail("Apptainer gives up on a directory with such a file", network.RepairCommand, "%v", err)
		}
	}
	switch len(files) {
	case 0:
		return pass("none yet: up writes one for each bridge")
	case 1:
		return pass("%s is valid", files[0])
	}
	return pass("%d in %s are valid", len(files), l.store.Path("cni"))
}

// overlaps looks for subnets on the host that overlap the subnets of boxes, or the default subnet where there are no
// boxes.
func (l networkLooks) overlaps(context.Context) Check {
	var texts []string
	for _, n := range l.networks() {
		if err := netsetup.Overlap(n); err != nil {
			return fail("packets for one of the two go to the other",
				"choose another network.subnet and network.bridge in the profiles", "%v", err)
		}
		texts = append(texts, fmt.Sprintf("%v of %s", n.Subnet, n.Bridge))
	}
	return pass("%s overlaps nothing", strings.Join(texts, ", "))
}

// obstacles looks for settings and rules of the host's own that keep packets from running boxes.
func (l networkLooks) obstacles(context.Context) Check {
	var texts, hints []string
	for _, b := range l.boxes {
		if !b.Alive() {
			continue
		}
		said, err := network.Obstacles(b)
		rivals, rivalsErr := network.Rivals(l.firewall, b)
		if err := cmp.Or(err, rivalsErr); err != nil {
			return broken(err)
		}
		for _, c := range append(said, rivals...) {
			if !slices.Contains(texts, c.Text) {
				texts, hints = append(texts, c.Text), append(hints, c.Hint)
			}
		}
	}
	if len(texts) > 0 {
		return fail("boxrun leaves these to whoever made them", strings.Join(hints, "; "), "%s", strings.Join(texts, "; "))
	}
	return pass("none in the way of boxes")
}

// rulesOfOthers reports other programs that write firewall rules. The checks of each box say whether such rules are
// in its way.
func (l networkLooks) rulesOfOthers(context.Context) []Check {
	f, err := l.firewall()
	if err != nil {
		if errors.Is(err, rules.ErrNoIptables) {
			return []Check{fail("boxes are connected by rules", "install the package iptables", "%v", err)}
		}
		return []Check{broken(err)}
	}
	version, err := rules.Version("iptables")
	if err != nil {
		return []Check{broken(err)}
	}
	return []Check{
		pass("%s", version).named("iptables backend"),
		mixed(f).named("rules in the other backend"),
		manager(f, "Docker"),
		manager(f, "ufw"),
		l.outwards(f).named("other rules that drop"),
	}
}

// mixed reports rules in the backend of iptables that f does not use.
func mixed(f firewall.State) Check {
	text := f.Mixed()
	if text == "" {
		return pass("none")
	}
	other := "iptables-nft"
	if f.Backend == "nft" {
		other = "iptables-legacy"
	}
	return warn("the kernel obeys both backends; programs and people see one of them",
		other+"-save shows them; move them over, or change the backend: update-alternatives --config iptables", "%s", text)
}

// manager reports whether rules of the program name, a manager of the firewall, are on the host.
func manager(f firewall.State, name string) Check {
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
func (l networkLooks) firewalld(context.Context) []Check {
	var checks []Check
	for _, n := range l.networks() {
		view, err := netsetup.LookFirewalld(n.Bridge)
		switch {
		case err != nil:
			checks = append(checks, broken(err))
		case view == nil:
			return []Check{pass("does not run")}
		case view.StrictPorts: // of all bridges
			return []Check{fail("firewalld then rejects published ports that are not its own",
				"set StrictForwardPorts=no in /etc/firewalld/firewalld.conf, and \"firewall-cmd --reload\"",
				"StrictForwardPorts=yes in /etc/firewalld/firewalld.conf")}
		case view.Zone == "":
			checks = append(checks, pass("%s is in no zone", n.Bridge)) // with boxes on the bridge, "firewalld zone" has failed
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
func (l networkLooks) setup(context.Context) Check {
	files, err := netsetup.SetupFiles(l.path("etc"))
	if err != nil {
		return broken(err)
	}
	if len(files) == 0 {
		return pass("nothing: up sets what boxes need each time; \"boxrun host setup\" has it set at boot")
	}
	overruled, err := site.Overruled(l.root, filepath.Join("etc", netsetup.SysctlFile))
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
func (l networkLooks) outwards(f firewall.State) Check {
	if !f.Native {
		return warn("rules of native nftables cannot be looked at", "install the package nftables", "nft is not installed")
	}
	var blocked []string
	for _, n := range l.networks() {
		if !slices.ContainsFunc(l.boxes, func(b *box.Box) bool { return b.Bridged() && b.Alive() && b.Profile.Network.Bridge == n.Bridge }) {
			continue
		}
		o := f.Forwarded(firewall.Packet{In: n.Bridge, Out: l.device(), Src: n.Gateway().Next(), Dst: routing.Somewhere(n.Gateway()), Proto: "tcp", DPort: 443}, netip.AddrPort{})
		if o.Dropped {
			return dropped(o, n.Bridge)
		}
		blocked = append(blocked, o.Unsure...)
	}
	if len(blocked) > 0 {
		return warn("these look at what boxrun does not know, and may drop packets of boxes", "", "%s", say.Listed(blocked, 3))
	}
	return pass("none in the way of boxes")
}

// bridgeNetfilter reports whether br_netfilter is loaded, the module that sends frames between boxes through
// iptables.
func (l networkLooks) bridgeNetfilter(context.Context) Check {
	value, err := l.line("proc/sys/net/bridge/bridge-nf-call-iptables")
	if err != nil {
		return unreadable(err, "not loaded, and not needed")
	}
	return pass("loaded (bridge-nf-call-iptables = %s); boxes work with it and without", value)
}

// dropped returns the failed check for a packet from or to bridge that the rule o.Rule drops.
func dropped(o firewall.Outcome, bridge string) Check {
	return fail("packets of boxes do not get past it", passage.LetPass(o.Rule, bridge), "dropped by: %s", firewall.RuleText(o.Rule))
}
