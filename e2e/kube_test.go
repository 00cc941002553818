package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// node is a host that is the node of a cluster of Kubernetes, with a pod. The API server is on the client.
type node struct{ tunnel }

// nodeScript sets up the pod, the units and the program api, which asks the API server: METHOD PATH [JSON].
const nodeScript = `
	ip netns add pod; ip link add pod0 type veth peer name eth0 netns pod; ip link set pod0 up; ip -n pod link set lo up
	ip addr add 10.244.0.1/24 dev pod0; ip addr add fd44::1/64 dev pod0 nodad
	ip -n pod addr add 10.244.0.5/24 dev eth0; ip -n pod addr add fd44::5/64 dev eth0 nodad; ip -n pod link set eth0 up
	ip -n pod route add default via 10.244.0.1; ip -n pod route add default via fd44::1
	cat > /usr/local/bin/api << 'END'
#!/bin/bash -e
type=application/json; [ $1 != PATCH ] || type=application/merge-patch+json
exec curl -sSk --fail-with-body --retry 30 --retry-delay 1 --retry-all-errors -m 60 -H 'Authorization: Bearer of-a-test' -H "Content-Type: $type" \
	-X $1 https://192.0.2.2:6443$2 ${3:+-d "$3"}
END
	chmod +x /usr/local/bin/api
	cat > /etc/kube.conf << END
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://192.0.2.2:6443", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: of-a-test}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
END
	cat > /etc/systemd/system/kube-proxy@.service << END
[Service]
ExecStart=kube-proxy --kubeconfig=/etc/kube.conf --proxy-mode=%i --hostname-override=host --cluster-cidr=10.244.0.0/16,fd44::/64 \
	--iptables-sync-period=1s --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
ExecStopPost=kube-proxy --cleanup
Restart=always
RestartSec=100ms
END
	systemctl daemon-reload
	api GET /readyz
	api POST /api/v1/nodes '{"metadata":{"name":"host"},"status":{"addresses":[
		{"type":"InternalIP","address":"192.0.2.1"},{"type":"InternalIP","address":"2001:db8:7::1"}]}}'
	serve() {
		api POST /api/v1/namespaces/default/services '{"metadata":{"name":"'$1'"},"spec":{"type":"'$2'","externalTrafficPolicy":"'$3'",
			"clusterIP":"10.96.0.'$4'",
			"clusterIPs":["10.96.0.'$4'","fd96::'$4'"],"ipFamilyPolicy":"RequireDualStack","ports":[{"port":80,"targetPort":8080,"nodePort":300'$4'}]}}'
		for end in '4 10.244.0.5' '6 fd44::5'; do
			set -- $1 $2 $3 $4 $end
			api POST /apis/discovery.k8s.io/v1/namespaces/default/endpointslices '{"metadata":{"name":"'$1-$5'","labels":{
				"kubernetes.io/service-name":"'$1'"}},"addressType":"IPv'$5'","ports":[{"name":"","protocol":"TCP","port":8080}],
				"endpoints":[{"addresses":["'$6'"],"nodeName":"host","conditions":{"ready":true}}]}'
		done
	}
	serve any NodePort Cluster 80; serve local LoadBalancer Local 81
	api PATCH /api/v1/namespaces/default/services/local/status '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.50"}]}}}'`

// joinCluster makes a cluster of a host: kube-proxy is installed, and does not run.
func (h host) joinCluster() node {
	h.t.Helper()
	bin, err := testhost.Kube(h.t.Context(), func(step string) { h.t.Log(step) })
	if err != nil {
		h.t.Fatal(err)
	}
	n := node{h.tunnelEnd()}
	h.client("ip", "route", "add", "192.0.2.50", "via", testhost.HostAddr)
	const server = `cd "$1"; openssl genrsa -out key 2048; echo of-a-test,admin,1,system:masters > tokens
		exec "$0" etcd --bind-address=192.0.2.2 --advertise-address=192.0.2.2 --cert-dir=tls --token-auth-file=tokens --authorization-mode=AlwaysAllow \
			--service-account-issuer=https://192.0.2.2 --service-account-key-file=key --service-account-signing-key-file=key \
			--service-cluster-ip-range=10.96.0.0/16,fd96::/112 --service-node-port-range=8000-32767`
	h.background(h.Name()+"-c", "bash", "-ec", server, filepath.Join(bin, "control"), h.t.TempDir())
	if err := h.Copy(h.t.Context(), filepath.Join(bin, "kube-proxy"), "/usr/local/bin/kube-proxy"); err != nil {
		h.t.Fatal(err)
	}
	h.sh(nodeScript)
	h.serve("ip", "netns", "exec", "pod", "probe", "serve", "pod", "tcp/:8080")
	return n
}

// unserved returns what of the cluster does not answer: at the ports of the node, at the address of a load balancer, at
// addresses of the cluster. externalTrafficPolicy Local keeps the address of who asks.
func (n node) unserved() string {
	ask := func(network string) []string { return []string{"ip", "netns", "exec", network, n.probe, "tcp"} }
	client, peer := ask(n.Name()+"-c"), ask(n.peer)
	var failed []string
	for _, q := range []struct {
		from   []string
		at     string
		answer string
	}{
		{client, "192.0.2.1:30080", "pod on 10.244.0.5"}, {client, "[2001:db8:7::1]:30080", "pod on [fd44::5]"},
		{client, "192.0.2.1:30081", "to 192.0.2.2:"}, {client, "[2001:db8:7::1]:30081", "to [2001:db8:7::2]:"},
		{client, "192.0.2.50:80", "to 192.0.2.2:"}, {peer, "192.0.2.1:30080", "pod on 10.244.0.5"}, {peer, "192.0.2.1:30081", "to 203.0.113.2:"},
		{ask(n.Name()), "10.96.0.80:80", "pod on 10.244.0.5"}, {ask(n.Name()), "[fd96::80]:80", "pod on [fd44::5]"},
	} {
		out, err := exec.Command(q.from[0], append(q.from[1:], q.at)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), q.answer) {
			failed = append(failed, strings.TrimPrefix(q.from[3], n.Name())+" "+q.at+": "+string(out))
		}
	}
	for _, at := range []string{"10.96.0.80 80", "fd96::80 80", "10.96.0.81 80", "192.0.2.1 30080", "2001:db8:7::1 30080", "192.0.2.1 30081"} {
		r := n.run("boxrun", "exec", "dual", "--", "sh", "-c", "echo | nc -N -w 2 "+at)
		if !strings.HasPrefix(r.Stdout, "pod on ") {
			failed = append(failed, "the box "+at+": "+r.String())
		}
	}
	return strings.Join(failed, "\n")
}

// kubeRules returns the rules of kube-proxy, in all tables.
func (n node) kubeRules() string {
	n.t.Helper()
	return strangers(n.host) + n.sh("for f in ip ip6; do nft -s list table $f kube-proxy 2> /dev/null || true; done")
}

// kube-proxy itself beside a box, with an API server: first a box that nothing mends but up, then an enabled box through all
// that happens to a kube-proxy. The programs take five minutes to build the first time, hence the test is no part of a change's.
func TestKubeProxy(t *testing.T) {
	if !soak() {
		t.Skip("builds Kubernetes: BOXRUN_SOAK=1")
	}
	h := newHost(t)
	n := h.joinCluster()
	n.profile("dual", dualProfile(`"8080:80"`))
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) { node{tunnel{n.in(t), n.peer}}.proxies(mode) })
	}
}

// proxies has a kube-proxy of a mode beside a box. Of an earlier kube-proxy its chain KUBE-FIREWALL is left, which no cleanup removes.
func (n node) proxies(mode string) {
	n.t.Helper()
	unit := "kube-proxy@" + mode
	n.must("systemctl", "start", unit)
	n.must("boxrun", "up", "dual")
	n.wait("up beside "+mode, n.unserved)
	n.must("boxrun", "down", "dual")
	n.must("systemctl", "stop", unit)
	plain := n.settings()

	n.must("boxrun", "up", "dual")
	n.must("systemctl", "start", unit)
	n.wait(unit, n.unserved)
	n.must("boxrun", "up", "dual")
	n.wait("mended beside "+mode, func() string { return n.unanswered() + n.unserved() })
	n.agree("mended beside " + mode)
	before := n.kubeRules()
	n.must("boxrun", "restart", "dual")
	n.must("boxrun", "repair")
	if now := n.kubeRules(); now != before {
		n.t.Errorf("after a restart of the box there are the rules\n%s\nand there were\n%s", now, before)
	}
	n.clashes(mode)

	n.must("boxrun", "enable", "dual")
	for _, script := range kubeSteps(unit) {
		n.sh(script)
		n.wait(script, func() string { return n.unanswered() + n.unserved() })
		n.agree(script)
	}
	n.must("systemctl", "stop", unit)
	n.wait("after a cleanup", func() string { return n.unanswered() })
	n.agree("after a cleanup")
	n.must("boxrun", "host", "reset", "--force")
	n.alone("after a reset", plain)
}

// kubeSteps are scripts of what happens to a kube-proxy. With a rule of routing for the host's address connections to boxes are marked.
func kubeSteps(unit string) []string {
	return []string{
		"systemctl restart " + unit,
		"systemctl kill -s KILL " + unit,
		"iptables -t mangle -X KUBE-PROXY-CANARY || nft delete table ip kube-proxy; " + // of which either is made again, and all with it
			"for i in $(seq 90 99); do api POST /api/v1/namespaces/default/services " +
			"'{\"metadata\":{\"name\":\"s'$i'\"},\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"port\":80,\"nodePort\":300'$i'}]}}'; done",
		"for i in $(seq 90 99); do api DELETE /api/v1/namespaces/default/services/s$i; done",
		"ip route add default via 192.0.2.2 table 100; ip route add 10.244.0.0/24 dev pod0 table 100; ip rule add pref 100 from 192.0.2.1 lookup 100",
		"systemctl restart " + unit + " # with marks",
		"ip rule del pref 100; ip route flush table 100",
	}
}

// clashes has a Service take the box's port, and wants all verbs to say so in the same words.
func (n node) clashes(mode string) {
	n.t.Helper()
	const path = "api PATCH /api/v1/namespaces/default/services/any "
	n.sh(path + `'{"spec":{"ports":[{"port":80,"targetPort":8080,"nodePort":8080}]}}'`)
	var drift []string
	n.wait("a nodePort of 8080", func() string {
		drift = strings.Split(strings.TrimSpace(n.must("sh", "-c", "boxrun status --json dual | jq -r '.drift[]'")), "\n")
		if len(drift) != 2 || !strings.Contains(drift[0], "what clients send to port 8080/tcp goes ") {
			return strings.Join(drift, "\n")
		}
		return ""
	})
	said := map[string]string{}
	for _, verb := range []string{"up dual", "repair", "doctor dual", "ps"} {
		r := n.run("sh", "-c", "boxrun "+verb)
		said[verb] = r.Stdout + r.Stderr
	}
	for _, line := range drift {
		text, hint, _ := strings.Cut(line, ": publish another host port")
		for verb, words := range said {
			if !strings.Contains(words, text) && (verb != "ps" || line == drift[0]) {
				n.t.Errorf("%s: %s says\n%s\nwant %q", mode, verb, words, text)
			}
		}
		if hint != ", or give the Service another nodePort" || !strings.Contains(text, map[string]string{"iptables": "KUBE-SEP-", "nftables": " kube-proxy "}[mode]) {
			n.t.Errorf("%s: drifted: %q, want a rule of kube-proxy and what to do", mode, line)
		}
	}
	if got := from(n.Name()+"-c", portAt("192.0.2.1")); mode == "iptables" && got != "200" {
		n.t.Errorf("at the port of both a client gets %s, want the box's page", got)
	}
	n.sh(path + `'{"spec":{"ports":[{"port":80,"targetPort":8080,"nodePort":30080}]}}'`)
	n.wait("a nodePort of its own", func() string { return n.unanswered() + n.unserved() })
	n.agree("a nodePort of its own")
}
