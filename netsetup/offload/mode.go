package offload

import "strings"

// Mode is what a profile wants of checksums and segments: whether they are left to devices. "" is as Keep.
type Mode string

// The modes.
const (
	Auto    Mode = "auto"     // as the drivers of the host's uplinks need
	Off     Mode = "off"      // not left of packets into boxes
	OffOut  Mode = "off-out"  // not left of packets out of boxes
	OffBoth Mode = "off-both" // not left in either direction
	Keep    Mode = "keep"     // always left
)

// In reports whether packets into boxes always have their checksums when they leave the bridge.
func (m Mode) In() bool { return m == Off || m == OffBoth }

// Out reports whether packets always leave a box with their checksums.
func (m Mode) Out() bool { return m == OffOut || m == OffBoth }

// Tell returns a line for each direction without anything left to devices, with the reason: veth is the host's
// end of the veth of a box, inside the box's end.
func (m Mode) Tell(veth, inside string, need Need) []string {
	var lines []string
	if why := m.why(m.In(), need.In); why != "" {
		lines = append(lines, "off on "+veth+", for packets into the box: "+why)
	}
	if why := m.why(m.Out(), need.Out); why != "" {
		lines = append(lines, "off on "+inside+" in the box, for packets out of the box: "+why)
	}
	return lines
}

// why returns why nothing is left to devices in a direction; "" where all is left.
func (m Mode) why(always bool, uplinks []Uplink) string {
	switch {
	case always:
		return "by network.offload = \"" + string(m) + "\""
	case m != Auto:
		return ""
	}
	var reasons []string
	for _, u := range uplinks {
		reasons = append(reasons, u.String()+" "+driverNamed(u.Driver).Why)
	}
	return strings.Join(reasons, "; ")
}
