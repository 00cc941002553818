package firewall

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/rules"
)

// nft is started where its chains may decide about packets, once for the same rules, and each time where sets change by
// themselves.
func TestWhatNFTSaidIsKept(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	bin, started := t.TempDir(), filepath.Join(t.TempDir(), "started")
	script := "#!/bin/sh\necho >> " + started + "\nPATH=${PATH#*:} exec nft \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "nft"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	kept := rules.Memory{Dir: dir, While: dir}
	const chain = "chain forward { type filter hook forward priority 10; policy drop; }"
	for _, step := range []struct {
		name, script, want string
		starts             int
	}{
		{"rules of iptables alone", "iptables -w -A FORWARD -i eth9 -j ACCEPT; ip6tables -w -A FORWARD -i eth9 -j ACCEPT", "passes", 0},
		{"a chain of another's", "nft 'table inet site { " + chain + "; }'", "dropped by nft chain inet site forward { policy drop; }", 1},
		{"another change", "nft add rule inet site forward ct status dnat accept", "passes", 1},
		{"a set that others fill", "nft 'add set inet site seen { type ipv4_addr; flags dynamic; timeout 1m; }'", "passes", 2},
	} {
		nstest.Shell(t, step.script)
		path := os.Getenv("PATH")
		t.Setenv("PATH", bin+":"+path)
		_ = os.Remove(started)
		for range 2 {
			used, err := rules.Save("iptables")
			if err != nil {
				t.Fatal(err)
			}
			f, err := Beside(kept, used)
			if err != nil {
				t.Fatal(err)
			}
			if got := outcome(f.Forwarded(client(), netip.MustParseAddrPort("10.22.0.2:80"))); got != step.want {
				t.Errorf("%s: got %q, want %q", step.name, got, step.want)
			}
		}
		lines, _ := os.ReadFile(started)
		if len(lines) != step.starts {
			t.Errorf("%s: nft was started %d times, want %d", step.name, len(lines), step.starts)
		}
		t.Setenv("PATH", path)
	}
}
