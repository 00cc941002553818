package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// tailscaleUnit is Tailscale's own unit, in short.
const tailscaleUnit = `[Service]
Type=notify
ExecStart=/usr/sbin/tailscaled --state=/var/lib/tailscale/tailscaled.state --socket=/run/tailscale/tailscaled.sock --port=41641
ExecStopPost=/usr/sbin/tailscaled --cleanup
Restart=on-failure
RuntimeDirectory=tailscale
StateDirectory=tailscale
`

// peerTailscale is the command line of the peer's tailscale; DIR is for its state.
func peerTailscale(bin, dir string, words ...string) []string {
	return append([]string{filepath.Join(bin, "tailscale"), "--socket", filepath.Join(dir, "sock")}, words...)
}

// joinTailnet makes a tailnet of a host and a peer, which is an exit node, and has the host join. Tailscale's own test server on the
// client is the control server.
func (h host) joinTailnet() tunnel {
	h.t.Helper()
	bin, err := testhost.Tailnet(h.t.Context(), func(step string) { h.t.Log(step) })
	if err != nil {
		h.t.Fatal(err)
	}
	n := h.tunnelEnd()
	dir := h.t.TempDir()
	h.background(h.Name()+"-c", filepath.Join(bin, "control"), testhost.ClientAddr)
	h.background(n.peer, filepath.Join(bin, "tailscaled"), "--statedir", dir, "--socket", filepath.Join(dir, "sock"), "--no-logs-no-support")
	join := []string{"up", "--login-server", "http://" + testhost.ClientAddr + ":9911", "--accept-dns=false", "--timeout", "20s"}
	n.wait("the peer joins", func() string {
		out, err := exec.Command("ip", append([]string{"netns", "exec", n.peer}, peerTailscale(bin, dir, append(join, "--advertise-exit-node",
			"--advertise-routes=198.51.100.0/24")...)...)...).CombinedOutput()
		return words(err, out)
	})
	h.client("curl", "-sSf", "http://"+testhost.ClientAddr+":9911/approve")
	for from, to := range map[string]string{"tailscale": "/usr/bin/tailscale", "tailscaled": "/usr/sbin/tailscaled"} {
		if err := h.Copy(h.t.Context(), filepath.Join(bin, from), to); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := h.Write(h.t.Context(), "/etc/systemd/system/tailscaled.service", 0o644, strings.NewReader(tailscaleUnit)); err != nil {
		h.t.Fatal(err)
	}
	h.must("systemctl", "start", "tailscaled")
	h.must(append([]string{"tailscale"}, join...)...)
	return n
}

// Tailscale itself beside a box: first a box that nothing mends but up, then an enabled box through all that a tailscaled does.
// The programs take two minutes to build the first time, hence the test is no part of a change's.
func TestTailscale(t *testing.T) {
	if !soak() {
		t.Skip("builds Tailscale: BOXRUN_SOAK=1")
	}
	h := newHost(t)
	n := h.joinTailnet()
	n.profile("dual", dualProfile(`"8080:80"`))
	plain, inside := n.settings(), strings.Fields(n.must("tailscale", "ip"))
	n.must("boxrun", "up", "dual")
	n.wait("joined before up", func() string { return n.unanswered(inside...) })
	n.agree("joined before up")

	n.must("tailscale", "set", "--exit-node=100.64.0.1")
	n.wait("status with an exit node", func() string { // which takes the answers to the LAN
		if got := n.run("boxrun", "status", "dual"); !containsAll(got.Stdout, []string{"drifted", "the routing rule is missing"}) {
			return got.String()
		}
		return ""
	})
	if got := from(n.Name()+"-c", "http://192.0.2.1:8080/"); got != "000" {
		t.Errorf("a client on the LAN beside an exit node, before up: got %s, want no answer", got)
	}
	n.must("boxrun", "up", "dual")
	n.wait("mended beside an exit node", func() string { return n.unanswered(inside...) })
	n.agree("mended beside an exit node")
	n.reach("by the exit node", true, "198.51.100.9", "2001:db8:99::9")
	n.must("boxrun", "down", "dual")
	n.must("tailscale", "set", "--exit-node=")
	n.alone("after down", plain)

	n.must("tailscale", "set", "--exit-node=100.64.0.1")
	n.must("boxrun", "up", "dual")
	n.must("boxrun", "enable", "dual")
	for _, s := range tailscaleSteps() {
		n.sh(s.command)
		asked := inside
		if s.left {
			asked = nil
		}
		n.wait(s.command, func() string { return n.unanswered(asked...) })
		n.agree(s.command)
		n.reach(s.command, s.exit, "2001:db8:99::9")
	}
	n.bulk(inside...)
	n.must("tailscale", "set", "--exit-node=", "--accept-routes=false", "--stateful-filtering=false")
	n.must("boxrun", "host", "reset", "--force")
	n.alone("after a reset", plain)
}

// tailscaleStep is what happens to Tailscale on the host, and how things are after it.
type tailscaleStep struct {
	command string
	left    bool // the host is not in the tailnet
	exit    bool // all goes by the exit node
}

func tailscaleSteps() []tailscaleStep {
	return []tailscaleStep{
		{command: "tailscale set --exit-node=100.64.0.1 --exit-node-allow-lan-access", exit: true},
		{command: "tailscale set --exit-node= --accept-routes"},
		{command: "tailscale set --exit-node=100.64.0.1 --exit-node-allow-lan-access=false", exit: true},
		{command: "tailscale down", left: true},
		{command: "tailscale up --login-server http://192.0.2.2:9911 --accept-dns=false --accept-routes --exit-node=100.64.0.1 --timeout 20s", exit: true},
		{command: "systemctl restart tailscaled", exit: true},
		{command: "systemctl kill -s KILL tailscaled", exit: true},
		{command: "systemctl stop tailscaled", left: true},
		{command: "systemctl start tailscaled", exit: true},
		{command: "tailscale set --stateful-filtering", exit: true},
		{command: "tailscale set --netfilter-mode=nodivert", exit: true},
		{command: "tailscale set --netfilter-mode=off", exit: true},
		{command: "tailscale set --netfilter-mode=on", exit: true},
	}
}
