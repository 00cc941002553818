package e2e

import (
	"strings"
	"testing"
)

// What --dry-run prints does on another clean host what up does on the first one.
func TestDryRunTypedIntoAShellGivesTheSame(t *testing.T) {
	for _, name := range []string{"web", "hello"} {
		t.Run(name, func(t *testing.T) {
			byBoxrun, byHand := newHost(t), newHost(t)
			before := byHand.dump()
			script := byHand.must("boxrun", "up", "--dry-run", name)
			byHand.same(before, stays()...)
			if r := byHand.run("bash", "-ec", script); r.Code != 0 {
				t.Fatalf("typing\n%s: %v", script, r)
			}
			byBoxrun.must("boxrun", "up", name)

			want, got := byBoxrun.dump(), byHand.dump()
			for _, section := range []string{"iptables-nft", "ip6tables-nft", "iptables-legacy", "nft", "features of sbr0", "routes"} {
				if got, want := steady(got.Section(section)), steady(want.Section(section)); got != want {
					t.Errorf("%s: got\n%s\nwant\n%s", section, got, want)
				}
			}
			if got, want := steady(got.Section("sysctl")), steady(want.Section("sysctl")); got != want {
				t.Errorf("sysctls: got\n%s\nwant\n%s", got, want)
			}
			port := map[string]string{"web": "80", "hello": "8080"}[name]
			if got := byHand.client("curl", "-sS", "-m", "5", "--retry", "10", "--retry-delay", "1", "--retry-all-errors",
				"http://192.0.2.1:"+port+"/"); got == "" {
				t.Error("the box answers with nothing")
			}
		})
	}
}

// steady gives the lines that two hosts have in common: a veth has a random name, and link-local addresses settle later.
func steady(section string) string {
	var kept strings.Builder
	for line := range strings.Lines(section) {
		if !strings.Contains(line, "veth") && !strings.Contains(line, "fe80:") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// down --dry-run prints how to take away what up has made.
func TestDryRunOfDownTypedIntoAShell(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "down", "web")
	before := h.dump()
	h.must("boxrun", "up", "web")
	up := h.dump()
	script := h.must("boxrun", "down", "--dry-run", "web")
	h.same(up)
	if r := h.run("bash", "-ec", script); r.Code != 0 {
		t.Fatalf("typing\n%s: %v", script, r)
	}
	for _, section := range []string{"links", "addresses", "routes", "iptables-nft", "ip6tables-nft", "nft", "processes"} {
		if got, want := h.dump().Section(section), before.Section(section); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", section, got, want)
		}
	}
}

// On a host where all is in place there is nothing to type.
func TestDryRunOfABoxThatIsUp(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.sh("iptables -t nat -F BOXRUN-DN-web")
	if got := h.must("boxrun", "up", "--dry-run", "web"); !strings.Contains(got, "BOXRUN-DN-web") || strings.Contains(got, "instance start") {
		t.Errorf("got\n%s\nwant the rules that are gone, and no start", got)
	}
}
