package offload

import (
	"strings"
	"testing"
)

// One value covers both directions, and by default the drivers of uplinks decide.
func TestTell(t *testing.T) {
	card, tunnel := Uplink{"enX0", "vif"}, Uplink{"vxlan0", "vxlan"}
	in, out := "off on veth8, for packets into the box: ", "off on eth0 in the box, for packets out of the box: "
	for _, test := range []struct {
		mode Mode
		need Need
		want string
	}{
		{Auto, Need{}, ""},
		{Auto, Need{In: []Uplink{card}}, in + "enX0 (driver vif) hands over packets of neighbours on the same machine with their checksums left blank (Xen, EC2's enX0)"},
		{Auto, Need{Out: []Uplink{tunnel}}, out + "vxlan0 (driver vxlan) wraps packets whose checksums are yet to be made, and cards below fail to make them inside"},
		{Off, Need{}, in + `by network.offload = "off"`},
		{OffOut, Need{}, out + `by network.offload = "off-out"`},
		{OffBoth, Need{}, in + `by network.offload = "off-both"` + "\n" + out + `by network.offload = "off-both"`},
		{Keep, Need{In: []Uplink{card}, Out: []Uplink{tunnel}}, ""},
		{"", Need{}, ""},
	} {
		if got := strings.Join(test.mode.Tell("veth8", "eth0", test.need), "\n"); got != test.want {
			t.Errorf("%q, %+v: got\n%s\nwant\n%s", test.mode, test.need, got, test.want)
		}
	}
}
