package firewall

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"boxrun/netsetup/rules"
)

// truth is whether a packet matches. A rule may look at something that is not known here: perhaps.
type truth int

const (
	no truth = iota
	perhaps
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// not turns yes into no, and keeps perhaps.
func (a truth) not() truth { return yes - a }

// matches asks all conditions of a rule. All must be met.
func matches(r rules.Rule, p Packet) truth {
	result := yes
	for _, m := range r.Matches {
		met := meets(m, p)
		if m.Not {
			met = met.not()
		}
		result = min(result, met)
	}
	return result
}

// meets asks a single condition, before its "!".
func meets(m rules.Match, p Packet) truth {
	value := m.Value()
	switch m.Name {
	case "-m", "--comment", "--limit", "--limit-burst": // a limit is not reached by one packet
		return yes
	case "-s":
		return within(value, p.Src)
	case "-d":
		return within(value, p.Dst)
	case "-i":
		return deviceName(value).is(p.In)
	case "-o":
		return deviceName(value).is(p.Out)
	case "-p":
		return truthOf(value == p.Proto || value == "all")
	case "--dport", "--dports":
		return truthOf(portAmong(value, p.DPort))
	case "--sport", "--sports":
		return portIfKnown(value, p.SPort)
	case "--ports":
		return max(truthOf(portAmong(value, p.DPort)), portIfKnown(value, p.SPort))
	case "--ctstate", "--state":
		return truthOf(p.inState(strings.Split(value, ",")))
	case "--ctstatus":
		return statusAmong(strings.Split(value, ","), p)
	case "--dst-type":
		return addressType(value, p)
	case "--tcp-flags":
		return flagsMatch(m.Values, p)
	case "--syn":
		return truthOf(p.Proto == "tcp" && !p.Reply)
	case "--mark":
		return markMatches(value)
	case "--icmp-type", "-f":
		return no
	}
	return perhaps
}

// within reports whether an address is in a prefix; perhaps for an unknown address.
func within(value string, addr netip.Addr) truth {
	if !addr.IsValid() {
		return perhaps
	}
	return truthOf(parsePrefix(value).Contains(addr))
}

// deviceName is a device as named by a rule: a "+" at the end stands for any rest.
type deviceName string

func (d deviceName) is(name string) truth {
	if prefix, ok := strings.CutSuffix(string(d), "+"); ok {
		return truthOf(name != "" && strings.HasPrefix(name, prefix))
	}
	return truthOf(string(d) == name)
}

// portIfKnown does not know the source port of a connection yet to come.
func portIfKnown(value string, port uint16) truth {
	if port == 0 {
		return perhaps
	}
	return truthOf(portAmong(value, port))
}

// inState reports whether the connection is in any of the states.
func (p Packet) inState(states []string) bool {
	state := "NEW"
	if p.Reply {
		state = "ESTABLISHED"
	}
	return slices.Contains(states, state) || p.Translated && slices.Contains(states, "DNAT")
}

func statusAmong(values []string, p Packet) truth {
	if p.Translated && slices.Contains(values, "DNAT") || p.Reply && slices.Contains(values, "SEEN_REPLY") {
		return yes
	}
	return perhaps
}

// addressType knows the host's own addresses from others.
func addressType(value string, p Packet) truth {
	switch value {
	case "LOCAL":
		return truthOf(p.ToHost)
	case "UNICAST":
		return truthOf(!p.ToHost)
	}
	return no // broadcast and the like
}

// flagsMatch compares the flags among the first list with the second: the first packet has SYN alone, later ones ACK.
func flagsMatch(values []string, p Packet) truth {
	if p.Proto != "tcp" || len(values) != 2 {
		return no
	}
	flag := "SYN"
	if p.Reply {
		flag = "ACK"
	}
	asked, set := strings.Split(values[0], ","), strings.Split(values[1], ",")
	if !slices.Contains(asked, flag) && !slices.Contains(asked, "ALL") {
		return truthOf(values[1] == "NONE")
	}
	return truthOf(len(set) == 1 && set[0] == flag)
}

// markMatches compares with 0, the mark of a packet that nobody marked.
func markMatches(value string) truth {
	mark, _, _ := strings.Cut(value, "/")
	n, err := strconv.ParseUint(mark, 0, 32)
	if err != nil {
		return perhaps
	}
	return truthOf(n == 0)
}
