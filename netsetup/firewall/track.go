package firewall

import (
	"cmp"
	"strings"

	"boxrun/netsetup/rules"
)

// tracking is what rules ask of connection tracking for a packet. The zero tracking is the kernel's usual one.
type tracking struct {
	off  bool
	zone string // connections of different zones are strangers to each other
	by   string // the rule
}

// untracks notes what a rule of the table raw asks for: NOTRACK, "CT --notrack" or "CT --zone N". A zone for a single
// direction of a connection (--zone-orig) does no harm: the answer is still known.
func (c *course) untracks(command string, r rules.Rule) {
	_, zone, zoned := strings.Cut(r.Text+" ", " --zone ")
	off := r.Target == "NOTRACK" || r.Target == "CT" && strings.Contains(r.Text, "--notrack")
	zoned = zoned && r.Target == "CT"
	if c.doubts == 0 && (off || zoned) {
		zone, _, _ = strings.Cut(zone, " ")
		c.out.track = tracking{off, zone, command}
	}
}

// untracksNative notes the same of a statement of nftables.
func (w *nftWalk) untracksNative(r nftRule, kind string, of node) {
	zone := of.at("key", "ct")
	zoned := kind == "mangle" && zone.at("key").word == "zone" && !zone.has("dir")
	if w.doubts == 0 && (kind == "notrack" || zoned) {
		w.out.track = tracking{kind == "notrack", of.at("value").word, r.String()}
	}
}

// tracking walks a packet through what is asked before connection tracking. The first rule counts.
func (s State) tracking(hook string, p Packet) tracking {
	const conntrack = -200 // NF_IP_PRI_CONNTRACK
	for _, t := range s.of(p) {
		if t.Name != "raw" {
			continue
		}
		if o := through(t, strings.ToUpper(hook), p); o.track.by != "" {
			return o.track
		}
	}
	before := s.nft.only(func(c nftChain) bool { return c.Prio < conntrack && c.Hook == hook && c.Type == "filter" && c.meets(p) })
	for _, c := range before.base {
		if o := before.throughChain(c, p); o.track.by != "" {
			return o.track
		}
	}
	return tracking{}
}

// Untracked returns the rule by which connection tracking takes no notice of a connection, or does not know its answer
// again, "" for none: then the destination of the first packet, or the source of the answer, is not translated. The
// hook is that of the first packet, prerouting, or output for packets of the host itself. The answer comes in from a
// bridge.
func (s State) Untracked(hook string, first, answer Packet) string {
	there, back := s.tracking(hook, first), s.tracking("prerouting", answer)
	switch {
	case there.off:
		return there.by
	case back.off || there.zone != back.zone:
		return cmp.Or(back.by, there.by)
	}
	return ""
}
