package e2e

import (
	"strings"
	"testing"
)

// victim is a box of the built-in image, whose root these tests play.
const victim = "image = \"builtin:hello\"\n[network]\nports = [\"8081:80\"]\n[systemd]\nstop_timeout = \"5s\"\n"

// TestAttackerOnTheNetwork has root of a box take addresses that are not the box's to take, and clients forge sources.
func TestAttackerOnTheNetwork(t *testing.T) {
	h := newHost(t)
	h.profile("evil", victim)
	h.profile("other", strings.Replace(victim, "8081", "8082", 1))
	h.sh("ip link add lan type dummy 2> /dev/null || ip link add lan type bridge; ip addr add 10.55.0.1/24 dev lan; ip link set lan up")
	h.must("boxrun", "up", "evil", "other")
	theirs := strings.TrimSpace(h.sh("jq -r .state.addr /run/boxrun/boxes/other.json"))
	rules := h.sh("iptables-save | grep BOXRUN")
	for name, addr := range map[string]string{
		"a host of an inner network": "10.55.0.7/24",
		"the gateway":                "10.22.0.1/16",
		"an address of the host":     "192.0.2.1/24",
		"the broadcast address":      "10.22.255.255/16",
		"the network itself":         "10.22.0.0/16",
		"another box":                theirs + "/16",
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			h.must("boxrun", "exec", "evil", "--", "sh", "-c", "ip addr flush dev eth0; ip addr add "+addr+" dev eth0")
			for _, verb := range [][]string{{"repair"}, {"up", "evil"}} {
				h.fails(1, []string{"restart evil"}, append([]string{"boxrun"}, verb...)...)
			}
			said := h.must("boxrun", "status", "evil")
			if !containsAll(said, []string{"drifted", "restart evil"}) {
				t.Errorf("status says\n%s", said)
			}
			if now := h.sh("iptables-save | grep BOXRUN"); now != rules {
				t.Errorf("the rules are now\n%s\nthey were\n%s", now, rules)
			}
		})
	}
	h.must("boxrun", "exec", "evil", "--", "sh", "-c", "ip addr flush dev eth0; ip addr add 10.22.7.7/16 dev eth0")
	h.must("boxrun", "repair")
	h.must("boxrun", "restart", "evil")
	h.must("boxrun", "status", "evil")
}
