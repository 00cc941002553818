package doctor

import (
	"slices"
	"strings"

	"boxrun/launcher/list"
	"boxrun/launcher/network"
	"boxrun/netsetup"
)

type plan = netsetup.Plan

// topic is a part of a plan with a check of its own.
type topic struct {
	name string
	good string // what the check reports without drift
	why  string
	part func(plan) plan
}

// checkTopics compares all topics of all plans with the host.
func checkTopics(k *netsetup.Kernel, topics []topic, plans []netsetup.Plan) []Check {
	return list.Map(topics, func(t topic) Check { return t.check(k, plans).named(t.name) })
}

// check compares the topic's part of all plans with the host.
func (t topic) check(k *netsetup.Kernel, plans []netsetup.Plan) Check {
	var drift, kept []string
	for _, p := range plans {
		part := t.part(p)
		lines, err := part.Drift(k)
		var names []string
		if err == nil {
			names, err = part.Kept(k)
		}
		if err != nil {
			return broken(err)
		}
		drift, kept = append(drift, lines...), append(kept, names...)
	}
	return t.judge(drift, kept)
}

// judge makes the check from drift, the lines of what is out of place, and kept, the devices whose drivers keep
// offload on. drift comes first.
func (t topic) judge(drift, kept []string) Check {
	switch {
	case slices.ContainsFunc(drift, func(line string) bool { return !netsetup.Overtaken(line) }):
		return fail(t.why, network.RepairCommand, "%s", strings.Join(drift, "; "))
	case len(drift) > 0: // only other rules before boxrun's: the checks of each box say whether they are in its way
		return warn(t.why, network.RepairCommand, "%s", strings.Join(drift, "; "))
	case len(kept) > 0:
		return warn(t.why, "", "a driver does not let it be turned off: %s", strings.Join(kept, ", "))
	}
	return pass("%s", t.good)
}

// sharedTopics divides the plans of the host and of the bridges into topics. beforeUp relies on the order of the
// first three.
func sharedTopics() []topic {
	return []topic{
		{"modules", "loaded, or built in", "rules and bridges are made of them",
			func(p plan) plan { return plan{Modules: p.Modules} }},
		{"ip_forward", "1", "without it nothing gets into boxes or out of them",
			func(p plan) plan {
				return plan{
					Sysctls: p.Sysctls, Forwarding: p.Forwarding, Advertisements: p.Advertisements, Settings6: p.Settings6,
				}
			}},
		{"rp_filter", "loose, or off, where boxes' packets pass", "strict filtering drops what comes in by one interface and is answered by another",
			func(p plan) plan { return plan{ReversePath: p.ReversePath} }},
		{"bridge", "up, with its address", "boxes are connected by it",
			func(p plan) plan { return plan{Device: p.Device, Address6: p.Address6} }},
		{"network managers", "leave boxes alone, where they are installed", "a manager of devices takes veths off the bridge and addresses away",
			func(p plan) plan { return plan{Managers: p.Managers} }},
		{"firewalld zone", "one that forwards, where firewalld runs", "firewalld rejects what boxes send from a bridge that is in none of its zones",
			func(p plan) plan { return plan{Zone: p.Zone} }},
		{"file of the bridge", "as written", "Apptainer finds the bridge by it",
			func(p plan) plan { return plan{Conflist: p.Conflist} }},
		{"offload", "off on bridges that network.offload wants it off on", "some network cards drop forwarded packets whose checksums were left to them: connections open and then hang",
			func(p plan) plan { return plan{Features: p.Features} }},
		{"masquerade", "in place", "answers to what boxes send come back to the host's address only; published ports are translated in the same table",
			func(p plan) plan { return rulesOf(p, "nat") }},
		{"packet size (mss)", "in place", "on a path with a smaller MTU connections open and then hang",
			func(p plan) plan {
				return rulesIn(p, func(table, chain string) bool { return table == "mangle" && !strays(chain) })
			}},
		{"late packets", "in place", "the host answers with a reset what connection tracking cannot place, and connections to boxes end",
			func(p plan) plan {
				return rulesIn(p, func(table, chain string) bool { return table == "mangle" && strays(chain) })
			}},
		{"way of answers", "leave by where the questions came in", "a port published on several uplinks, or beside a VPN, answers on one of them only",
			func(p plan) plan { return plan{Owner: p.Owner, Answers: p.Answers, Answers6: p.Answers6} }},
		{"forward", "BOXRUN-FWD comes first", "other rules, such as Docker's policy DROP, decide about packets of boxes",
			func(p plan) plan { return rulesOf(p, "filter") }},
		{"guard of 127.0.0.1", "in place", "without the rule boxes reach the host's own 127.0.0.1; without the sysctl 127.0.0.1 does not reach boxes",
			func(p plan) plan {
				guard := rulesOf(p, "raw")
				guard.Localnet = p.Localnet
				return guard
			}},
	}
}

// strays reports whether a chain of mangle is on the way of packets in state INVALID.
func strays(chain string) bool { return chain == "INPUT" || chain == "BOXRUN-STRAY" }

// rulesOf returns the part of p with the chains and rules of a table.
func rulesOf(p plan, table string) plan {
	return rulesIn(p, func(t, _ string) bool { return t == table })
}

// rulesIn returns the part of p with the chains for which in says yes, and the rules there.
func rulesIn(p plan, in func(table, chain string) bool) plan {
	others := func(c netsetup.Chain) bool { return !in(c.Table, c.Name) }
	elsewhere := func(r netsetup.Rule) bool { return !in(r.Table, r.Chain) }
	return plan{
		Owner:   p.Owner,
		Chains:  slices.DeleteFunc(slices.Clone(p.Chains), others),
		Rules:   slices.DeleteFunc(slices.Clone(p.Rules), elsewhere),
		Chains6: slices.DeleteFunc(slices.Clone(p.Chains6), others),
		Rules6:  slices.DeleteFunc(slices.Clone(p.Rules6), elsewhere),
	}
}
