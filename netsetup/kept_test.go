package netsetup

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/rules"
)

func TestKeptRulesNFT(t *testing.T)    { onBackend(t, "nft", testKeptRules) }
func TestKeptRulesLegacy(t *testing.T) { onBackend(t, "legacy", testKeptRules) }

// The rules as kept over boxrun's own changes are those that a new reading finds, and a change by others is seen.
func testKeptRules(t *testing.T, h *testHost) {
	same := func(when string) {
		t.Helper()
		have, err := h.k.rules(v4)
		if err != nil {
			t.Fatal(err)
		}
		read, err := rules.Save("iptables")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := asText(have), asText(read); got != want {
			t.Errorf("%s: kept:\n%s\nread:\n%s", when, got, want)
		}
	}
	nstest.Run(t, "iptables", "-w", "-N", "STRANGER")
	same("at first")
	h.up()
	same("after up")
	h.k.Reread()
	same("after up, read again")
	nstest.Run(t, "iptables", "-w", "-I", "FORWARD", "-j", "STRANGER")
	h.k.Reread()
	same("after a stranger's rule")
	nstest.Run(t, "iptables", "-w", "-t", "nat", "-F", "BOXRUN-DNAT")
	h.k.Reread()
	h.apply()
	same("after a repair")
	if numbered := strings.HasSuffix(t.Name(), "NFT"); numbered && rules.Translating("iptables") { // of legacy's tables only the names are cheap
		t.Error("boxrun's own rules in table nat are taken for those of others")
	}
	h.down()
	same("after down")
	nstest.Run(t, "iptables", "-w", "-t", "nat", "-N", "DOCKER")
	nstest.Run(t, "iptables", "-w", "-t", "nat", "-A", "DOCKER", "-p", "tcp", "--dport", "8888", "-j", "DNAT", "--to-destination", "192.0.2.9:80")
	if !rules.Translating("iptables") {
		t.Error("a rule of others in table nat is not seen")
	}
}

// asText lists tables by name, without the built-in chains that hold nothing: a kept table may lack those.
func asText(tables rules.Tables) string {
	var lines []string
	byName := func(a, b *rules.Table) int { return strings.Compare(a.Name, b.Name) }
	for _, t := range slices.SortedFunc(slices.Values(tables), byName) {
		for _, c := range t.Sorted() {
			if c.Policy == "-" || len(c.Rules) > 0 {
				lines = append(lines, fmt.Sprintf("%s %s", t.Name, c.Name))
			}
			for _, r := range c.Rules {
				lines = append(lines, "  "+r.Text)
			}
		}
	}
	return strings.Join(lines, "\n")
}
