package netsetup

import (
	"slices"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/rules"
)

func TestTracesNFT(t *testing.T)    { onBackend(t, "nft", testTraces) }
func TestTracesLegacy(t *testing.T) { onBackend(t, "legacy", testTraces) }

// testTraces loses every record, and clears the host by the names alone: once by Remove, once as typed.
func testTraces(t *testing.T, h *testHost) {
	nstest.Shell(t, strangersRules)
	nstest.Shell(t, "iptables -F INPUT")                                               // where rules have boxrun's mark: what carries the name goes, whoever wrote it
	nstest.Shell(t, "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.ext0.rp_filter=2") // these stay, as after any up
	before := dumpHost(t)
	for _, clear := range []struct {
		name string
		by   func(Traces) error
	}{
		{"Remove", func(found Traces) error { return found.Remove(h.k) }},
		{"the commands, typed,", func(found Traces) error {
			nstest.Shell(t, strings.Join(found.Commands(), "\n"))
			return nil
		}},
	} {
		h.up()
		nstest.Shell(t, `iptables -A INPUT -m comment --comment boxrun:odd -j ACCEPT
			iptables -A FORWARD -j BOXRUN-FWD
			iptables -t nat -N BOXRUN-DN-gone
			ip link add gone type bridge; ip link set gone alias boxrun:gone`)
		found, err := FindTraces(h.k)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(found.Bridges, " "), "sbr0 gone"; got != want {
			t.Errorf("bridges: got %s, want %s", got, want)
		}
		if err := clear.by(found); err != nil {
			t.Errorf("%s: %v", clear.name, err)
		}
		nstest.Shell(t, "ip link set veth8 nomaster; ip link set veth8 down; ethtool -K veth8 tx on sg on gso on rx on; rm -r /run/boxrun/cni")
		sameHost(t, "after "+clear.name, dumpHost(t), before)
		found, err = FindTraces(h.k)
		if len(found.Rules)+len(found.Bridges)+len(found.Guarded)+len(found.Lookups)+len(found.Routes) > 0 || err != nil {
			t.Errorf("after %s there are still %+v, %v", clear.name, found, err)
		}
	}
}

// A bridge of somebody else keeps its place; what opened the host's 127.0.0.1 to it is closed.
func TestTracesOnAFoundBridge(t *testing.T) { onBackend(t, "nft", testTracesOnAFoundBridge) }

func testTracesOnAFoundBridge(t *testing.T, h *testHost) {
	nstest.Shell(t, "ip link add sbr0 type bridge; ip addr add 10.22.0.1/16 dev sbr0; ip link set sbr0 up")
	h.up()
	found, err := FindTraces(h.k)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Bridges) > 0 || !slices.Equal(found.Guarded, []string{"sbr0"}) || !slices.Equal(found.Names(), []string{"sbr0"}) {
		t.Errorf("found %v, guarded %v, names %v, want sbr0 guarded", found.Bridges, found.Guarded, found.Names())
	}
	if err := found.Remove(h.k); err != nil {
		t.Error(err)
	}
	if got, want := nstest.Shell(t, "ip -br link show sbr0 | cut -d ' ' -f 1; sysctl -n net.ipv4.conf.sbr0.route_localnet"), "sbr0\n0"; got != want {
		t.Errorf("the bridge and its route_localnet: got %q, want %q", got, want)
	}
}

// Whose rule it is stands in its comment; a chain's is told by its name.
func TestTraceOwners(t *testing.T) {
	have, err := rules.Parse("iptables", `*nat
:PREROUTING ACCEPT [0:0]
:BOXRUN-DN-web - [0:0]
:BOXRUN-DNAT - [0:0]
-A PREROUTING -j DOCKER
-A PREROUTING -j BOXRUN-DNAT
-A BOXRUN-DN-web -p tcp -m tcp --dport 80 -m comment --comment "boxrun:web" -j DNAT --to-destination 10.22.0.8:80
-A BOXRUN-DNAT -m comment --comment "boxrun:web" -j BOXRUN-DN-web
-A BOXRUN-DNAT -j ACCEPT
COMMIT
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, trace := range tracesAmong(have) {
		got = append(got, trace.Owner+": "+trace.String())
	}
	want := `web: iptables -t nat -N BOXRUN-DN-web
web: iptables -t nat -A BOXRUN-DN-web -p tcp --dport 80 -m comment --comment boxrun:web -j DNAT --to-destination 10.22.0.8:80
host: iptables -t nat -N BOXRUN-DNAT
web: iptables -t nat -A BOXRUN-DNAT -m comment --comment boxrun:web -j BOXRUN-DN-web
host: iptables -t nat -A BOXRUN-DNAT -j ACCEPT
host: iptables -t nat -A PREROUTING -j BOXRUN-DNAT`
	if strings.Join(got, "\n") != want {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

func TestHoldings(t *testing.T) { onBackend(t, "nft", testHoldings) }

func testHoldings(t *testing.T, h *testHost) {
	h.up()
	nstest.Shell(t, "iptables -t nat -F BOXRUN-DN-coldfront; ip link set sbr0 down")
	h.k.Reread()
	var got []string
	for _, p := range h.plans {
		held, err := p.Holdings(h.k)
		if err != nil {
			t.Fatal(err)
		}
		for _, holding := range held {
			got = append(got, holding.Owner+": "+holding.What+" "+strings.Join(holding.Drift[:min(1, len(holding.Drift))], ""))
		}
	}
	want := `host: kernel modules bridge 
host: sysctl net.ipv4.ip_forward 
host: sysctl rp_filter 
host: the rules of boxrun:host 
sbr0: bridge sbr0 bridge sbr0 is down
sbr0: sysctl net.ipv4.conf.sbr0.forwarding 
sbr0: /run/boxrun/cni/boxrun-sbr0.conflist 
sbr0: offload of sbr0 
sbr0: ways of answers from sbr0 
sbr0: the rules of boxrun:sbr0 
sbr0: sysctl net.ipv4.conf.sbr0.route_localnet 
coldfront: offload of veth8 
coldfront: port veth8 
coldfront: the rules of boxrun:coldfront chain nat/BOXRUN-DN-coldfront lacks the rule: ` +
		`-d 127.0.0.1 -p tcp --dport 5432 -m comment --comment boxrun:coldfront -j DNAT --to-destination 10.22.0.8:5432`
	if strings.Join(got, "\n") != want {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}
