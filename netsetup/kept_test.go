package netsetup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	// next has a next process take the rules over from this one, and no save asked.
	asked := countSaves(t, "iptables")
	memory := rules.Memory{Dir: t.TempDir(), While: "/"}
	next := func(when string) {
		t.Helper()
		read, err := rules.Save("iptables")
		if err != nil {
			t.Fatal(err)
		}
		asked()
		over := rules.Kept{Memory: memory}
		if err := over.Read("iptables"); err != nil {
			t.Fatal(err)
		}
		if got, want := asked(), strings.HasSuffix(t.Name(), "Legacy"); got != want {
			t.Errorf("%s: the save was asked: %v, want %v", when, got, want)
		}
		if got, want := asText(over.Tables()), asText(read); got != want {
			t.Errorf("%s: taken over:\n%s\nread:\n%s", when, got, want)
		}
	}
	h.k.Remember(memory)
	nstest.Run(t, "iptables", "-w", "-N", "STRANGER")
	same("at first")
	h.up()
	same("after up")
	next("after up")
	h.k.Reread()
	same("after up, read again")
	nstest.Run(t, "iptables", "-w", "-I", "FORWARD", "-j", "STRANGER")
	h.k.Reread()
	same("after a stranger's rule")
	nstest.Run(t, "iptables", "-w", "-t", "nat", "-F", "BOXRUN-DNAT")
	h.k.Reread()
	h.apply()
	same("after a repair")
	next("after a repair")
	if numbered := strings.HasSuffix(t.Name(), "NFT"); numbered && rules.Translating("iptables") { // of legacy's tables only the names are cheap
		t.Error("boxrun's own rules in table nat are taken for those of others")
	}
	h.down()
	same("after down")
	next("after down")
	nstest.Run(t, "iptables", "-w", "-t", "nat", "-N", "DOCKER")
	nstest.Run(t, "iptables", "-w", "-t", "nat", "-A", "DOCKER", "-p", "tcp", "--dport", "8888", "-j", "DNAT", "--to-destination", "192.0.2.9:80")
	if !rules.Translating("iptables") {
		t.Error("a rule of others in table nat is not seen")
	}
}

func TestRulesOfNobody(t *testing.T) { onBackend(t, "nft", testRulesOfNobody) }

// Where nobody has a rule, the rules are read without a program, policies too; with the first chain or rule of somebody's the
// save of iptables is asked. What comes of it is what the save prints.
func testRulesOfNobody(t *testing.T, _ *testHost) {
	asked := countSaves(t, "ip6tables")
	for _, c := range []struct {
		by    string
		asked bool
	}{
		{"true", false},
		{"ip6tables -w -A FORWARD -j DROP; ip6tables -w -t nat -A PREROUTING -j RETURN", true},
		{"ip6tables -w -D FORWARD 1; ip6tables -w -t nat -F", false},
		{"ip6tables -w -P FORWARD DROP", false},
		{"ip6tables -w -N STRANGER", true},
		{"ip6tables -w -X STRANGER; nft add table ip6 site; nft 'add chain ip6 site c { type filter hook input priority 0; }; add rule ip6 site c drop'", false},
		{"iptables -w -A FORWARD -j DROP", false},
	} {
		nstest.Shell(t, c.by)
		kept := rules.Kept{}
		asked()
		if err := kept.Read("ip6tables"); err != nil {
			t.Errorf("%s: %v", c.by, err)
		}
		if got := asked(); got != c.asked {
			t.Errorf("%s: the save was asked: %v, want %v", c.by, got, c.asked)
		}
		read, err := rules.Save("ip6tables")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := asText(kept.Tables())+policies(kept.Tables()), asText(read)+policies(read); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.by, got, want)
		}
	}
}

// countSaves has a tool's save leave a mark, and returns a function that takes the mark away, and reports whether it was there.
func countSaves(t *testing.T, tool string) (asked func() bool) {
	t.Helper()
	program := tool + "-save"
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	counting := t.TempDir()
	mark := filepath.Join(counting, "asked")
	script := "#!/bin/sh\ntouch " + mark + "\nexec " + path + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(counting, program), []byte(script), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	t.Setenv("PATH", counting+":"+os.Getenv("PATH"))
	return func() bool { return os.Remove(mark) == nil }
}

// policies lists the chains with their policies.
func policies(tables rules.Tables) string {
	var lines []string
	for _, t := range tables {
		for _, c := range t.Chains {
			lines = append(lines, "\n"+t.Name+" "+c.Name+" "+c.Policy)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
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
