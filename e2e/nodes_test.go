package e2e

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// nodeRules are rules that a program of clusters of Kubernetes leaves on a node, beside those of kube-proxy.
type nodeRules struct {
	name   string
	set    string // after which the program's rules come first in each chain, as it wants them
	unset  string
	policy string // a rule of the program that keeps clients from a box, as by a policy of the cluster; "" for none
	source string // the client, as the box sees it; "" for its own address
}

// calicoRules are those of Calico's Felix with the default chainInsertMode, without endpoints, for the pods of 10.244.0.0/16.
const calicoRules = `iptables-restore --noflush << 'RULES'
*raw
:cali-PREROUTING -
:cali-from-host-endpoint -
-A cali-PREROUTING -j MARK --set-xmark 0x0/0xf0000
-A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000
-A cali-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP
-A cali-PREROUTING -m mark --mark 0x0/0x40000 -j cali-from-host-endpoint
-A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
-I PREROUTING -j cali-PREROUTING
COMMIT
*mangle
:cali-PREROUTING -
:cali-POSTROUTING -
:cali-from-host-endpoint -
:cali-to-host-endpoint -
-A cali-PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-PREROUTING -j cali-from-host-endpoint
-A cali-PREROUTING -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-POSTROUTING -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-POSTROUTING -j MARK --set-xmark 0x0/0xf0000
-A cali-POSTROUTING -m conntrack --ctstate DNAT -j cali-to-host-endpoint
-I PREROUTING -j cali-PREROUTING
-I POSTROUTING -j cali-POSTROUTING
COMMIT
*nat
:cali-PREROUTING -
:cali-POSTROUTING -
:cali-fip-dnat -
:cali-nat-outgoing -
-A cali-PREROUTING -j cali-fip-dnat
-A cali-POSTROUTING -j cali-nat-outgoing
-A cali-nat-outgoing -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE --random-fully
-I PREROUTING -j cali-PREROUTING
-I POSTROUTING -j cali-POSTROUTING
COMMIT
*filter
:cali-FORWARD -
:cali-from-hep-forward -
:cali-from-wl-dispatch -
:cali-to-wl-dispatch -
:cali-to-hep-forward -
:cali-cidr-block -
-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -m mark --mark 0x0/0x10000 -j cali-from-hep-forward
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-FORWARD -o cali+ -j cali-to-wl-dispatch
-A cali-FORWARD -j cali-to-hep-forward
-A cali-FORWARD -j cali-cidr-block
-A cali-from-wl-dispatch -m comment --comment "Unknown interface" -j DROP
-A cali-to-wl-dispatch -m comment --comment "Unknown interface" -j DROP
-I FORWARD -j cali-FORWARD
-A FORWARD -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A FORWARD -j MARK --set-xmark 0x10000/0x10000
COMMIT
RULES`

// ciliumRules are those of Cilium without its replacement of kube-proxy. The kernel's own rule of routing comes after Cilium's.
const ciliumRules = `iptables-restore --noflush << 'RULES'
*raw
:CILIUM_PRE_raw -
-A CILIUM_PRE_raw -m mark --mark 0x200/0xf00 -j CT --notrack
-I PREROUTING -j CILIUM_PRE_raw
COMMIT
*mangle
:CILIUM_PRE_mangle -
-A CILIUM_PRE_mangle ! -o lo -m socket --transparent -m mark ! --mark 0xe00/0xf00 -m mark ! --mark 0x800/0xf00 -j MARK --set-xmark 0x200/0xffffffff
-I PREROUTING -j CILIUM_PRE_mangle
COMMIT
*nat
:CILIUM_POST_nat -
-A CILIUM_POST_nat -s 10.244.0.0/24 -m addrtype ! --dst-type LOCAL ! -d 10.244.0.0/16 ! -o cilium_+ -j MASQUERADE
-A CILIUM_POST_nat -m mark --mark 0xe00/0xf00 -j ACCEPT
-I POSTROUTING -j CILIUM_POST_nat
COMMIT
*filter
:CILIUM_FORWARD -
-A CILIUM_FORWARD -o cilium_host -j ACCEPT
-A CILIUM_FORWARD -i cilium_host -j ACCEPT
-A CILIUM_FORWARD -i lxc+ -j ACCEPT
-A CILIUM_FORWARD -o lxc+ -j ACCEPT
-I FORWARD -j CILIUM_FORWARD
COMMIT
RULES
iptables -P FORWARD DROP
ip route add local default dev lo table 2004; ip rule add pref 9 fwmark 0x200/0xf00 lookup 2004
ip rule add pref 100 lookup local; ip rule del pref 0`

// flannelRules are those of flannel and of a kubelet.
const flannelRules = `iptables-restore --noflush << 'RULES'
*nat
:FLANNEL-POSTRTG -
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/24 -d 10.244.0.0/16 -j RETURN
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/24 -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 -j MASQUERADE --random-fully
-A POSTROUTING -j FLANNEL-POSTRTG
COMMIT
*filter
:FLANNEL-FWD -
:KUBE-FIREWALL -
-A FLANNEL-FWD -s 10.244.0.0/16 -j ACCEPT
-A FLANNEL-FWD -d 10.244.0.0/16 -j ACCEPT
-A FORWARD -j FLANNEL-FWD
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-I INPUT -j KUBE-FIREWALL
-I OUTPUT -j KUBE-FIREWALL
COMMIT
RULES
iptables -P FORWARD DROP`

// amazonRules are those of the VPC CNI of Amazon EKS, for a VPC of 172.31.0.0/16.
const amazonRules = `iptables-restore --noflush << 'RULES'
*mangle
-A PREROUTING -i eth0 -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80
-A PREROUTING -i eni+ -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
COMMIT
*nat
:AWS-SNAT-CHAIN-0 -
-A AWS-SNAT-CHAIN-0 -d 172.31.0.0/16 -j RETURN
-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m addrtype ! --dst-type LOCAL -j SNAT --to-source 192.0.2.1 --random-fully
-I POSTROUTING -j AWS-SNAT-CHAIN-0
COMMIT
RULES
ip rule add pref 1024 fwmark 0x80/0x80 lookup main`

func rulesOfNodes() []nodeRules {
	return []nodeRules{
		{name: "Calico", set: calicoRules, policy: "iptables -t mangle -A cali-from-host-endpoint -i eth0 -p tcp --dport 80 -j DROP"},
		{name: "Cilium", set: ciliumRules, unset: "ip rule add pref 0 lookup local; ip rule del pref 100; ip rule del pref 9; ip route flush table 2004"},
		{name: "flannel and a kubelet", set: flannelRules},
		{name: "Amazon's VPC CNI", set: amazonRules, unset: "ip rule del pref 1024", source: testhost.HostAddr},
	}
}

// The rules of a node of a cluster, made before a box and while it is up, on a host with two uplinks: up and repair leave
// them as they are, the box answers everywhere, and what keeps clients from it is named.
func TestRulesOfNodes(t *testing.T) {
	h := newHost(t)
	far := h.addUplink()
	h.sh(sourceRouting)
	h.serve(h.probe, "serve", "client", "tcp/:6001")
	for _, r := range rulesOfNodes() {
		t.Run(r.name, func(t *testing.T) { h.in(t).isNode(r, far) })
	}
}

func (h host) isNode(r nodeRules, far func(string) string) {
	h.t.Helper()
	h.sh(r.set)
	rules := tablesOf(strangers(h))
	h.says(nil)
	h.reaches()
	h.answers("up", far)
	h.sh("nft flush ruleset; iptables -P FORWARD ACCEPT")
	h.must("boxrun", "repair")
	h.sh(r.unset + "\n" + r.set)
	for _, again := range []string{"repair", "up web"} {
		h.must("sh", "-c", "boxrun "+again)
		if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "in place") {
			h.t.Errorf("after %s status says\n%s", again, got)
		}
	}
	h.reaches()
	h.answers("repaired", far)
	h.seenFrom(cmp.Or(r.source, testhost.ClientAddr))
	h.must("boxrun", "doctor", "web")
	if got := tablesOf(strangers(h)); !slices.Equal(got, rules) {
		h.t.Errorf("the rules of others are\n%s\nwant\n%s", got, rules)
	}
	if r.policy != "" {
		h.cutOffBy(r.policy)
	}
	h.must("boxrun", "down", "web")
	h.sh(r.unset + "\nnft flush ruleset")
}

// seenFrom wants the box to see a client at an address.
func (h host) seenFrom(addr string) {
	h.t.Helper()
	h.must("boxrun", "exec", "web", "--", "truncate", "-s", "0", "/var/log/nginx/access.log")
	h.page()
	if late := eventually(patience/4, func() string {
		if got := h.must("boxrun", "exec", "web", "--", "cat", "/var/log/nginx/access.log"); !strings.HasPrefix(got, addr+" ") {
			return got
		}
		return ""
	}); late != "" {
		h.t.Errorf("nginx in the box says\n%s\nwant a client at %s", late, addr)
	}
}

// tablesOf returns the tables of a listing in the order of their text: that of iptables-save is the order in which they were made.
func tablesOf(save string) []string {
	tables := strings.SplitAfter(save, "COMMIT\n")
	slices.Sort(tables)
	return tables
}

// cutOffBy adds a rule of others that keeps clients from a box, and wants all verbs to name it.
func (h host) cutOffBy(rule string) {
	h.t.Helper()
	h.sh(rule)
	for _, verb := range []string{"up web", "repair", "status web", "doctor web", "trace --probe web 80"} {
		if r := h.run("sh", "-c", "boxrun "+verb); !strings.Contains(r.Stdout+r.Stderr, rule) {
			h.t.Errorf("%s: %v\nwant %s", verb, r, rule)
		}
	}
	h.sh(strings.Replace(rule, " -A ", " -D ", 1))
}
