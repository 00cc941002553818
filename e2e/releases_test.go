package e2e

import (
	"context"
	"os"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// A release is a host of the matrix. Debian 11 and sid are listed by what they had: sid changes daily, and so is no measure for
// a change of boxrun.
type release struct {
	name   string
	boot   func(context.Context, func(string)) (*testhost.Host, error)
	listed bool     // docs/versions.md has its versions
	has    []string // what drifts may need
}

func releases() []release {
	all := []string{someFirewalld, portFlags}
	return []release{
		{"Debian 12", testhost.NewDebian12, true, all}, // systemd, iptables and firewalld near those of Enterprise Linux 9 and Amazon Linux
		{"Debian 13", testhost.NewWithNeighbours, true, all},
		{"Debian sid", testhost.NewSid, false, all},
		{"Debian 11", testhost.NewDebian11, true, []string{someFirewalld}}, // supported no longer, and near Enterprise Linux 8
	}
}

// A manager is what manages devices, rules or ways on a host of the matrix.
type manager struct {
	name  string
	setup func(h host) // of the host, before the first box; nil for a plain host
	has   string       // what drifts may need
}

func managersOfHosts() []manager {
	const static = "mkdir -p /etc/systemd/network; printf '[Match]\\nName=eth0\\n[Network]\\nAddress=192.0.2.1/24\\nGateway=192.0.2.2\\n' > /etc/systemd/network/10-eth0.network; " +
		"printf '[Match]\\nName=*\\n[Network]\\nDHCP=yes\\n' > /etc/systemd/network/50-site.network; " +
		"systemctl enable -q --now systemd-networkd; systemctl disable -q systemd-networkd-wait-online; sleep 1"
	const keyfile = "printf '[main]\\ndns=none\\n[keyfile]\\nunmanaged-devices=interface-name:eth0\\n' > /etc/NetworkManager/conf.d/site.conf; " +
		"systemctl mask -q NetworkManager-dispatcher NetworkManager-wait-online; systemctl enable -q --now NetworkManager; sleep 1"
	return []manager{
		{name: "plain"},
		{name: "networkd has all links", setup: func(h host) { h.sh(static) }},
		{name: "NetworkManager", setup: func(h host) { h.sh(keyfile) }},
		{name: "iptables-legacy", setup: func(h host) { h.sh("update-alternatives --set iptables /usr/sbin/iptables-legacy > /dev/null") }},
		{name: "two uplinks", setup: func(h host) { h.addUplink(); h.sh(sourceRouting) }, has: someUplinks},
	}
}

// The main job is done on each release with each manager. A change of boxrun is tried on a sample: the release that is
// nearest to the hosts people have.
func TestMainJob(t *testing.T) {
	sideBySide(t)
	for _, r := range releases() {
		for _, m := range managersOfHosts() {
			t.Run(r.name+"/"+m.name, func(t *testing.T) {
				if !soak() && (r.name != "Debian 12" || m.name != "plain") {
					t.Skip("at full length only: make soak")
				}
				t.Parallel()
				h := bootHost(t, r.boot)
				if r.listed {
					h.listed(r.name)
				} else {
					t.Log(h.versions(r.name))
				}
				if m.setup != nil {
					m.setup(h)
				}
				h.mainJob()
			})
		}
	}
}

// versions gives the row of a host in the table of docs/versions.md, up to what was tested.
func (h host) versions(release string) string {
	h.t.Helper()
	return "| " + release + strings.TrimSuffix(h.sh(`for v in "$(systemctl --version | head -n 1)" "$(iptables --version)" \
		"$(firewall-offline-cmd --version)" "$(apptainer --version)"; do printf ' | %s' "$(echo "$v" | grep -o '[0-9][0-9.]*' | head -n 1)"; done`), "\n") + " |"
}

// listed wants the versions of a host on the page of versions.
func (h host) listed(release string) {
	h.t.Helper()
	text, err := os.ReadFile("../docs/versions.md")
	if err != nil {
		h.t.Fatal(err)
	}
	if row := h.versions(release); !strings.Contains(string(text), "\n"+row) {
		h.t.Errorf("docs/versions.md does not have %q", row)
	}
}

// ofUplinks is what boxrun leaves loose on a host with several uplinks, as down says.
const ofUplinks = `^net\.ipv4\.conf\.ext1\.rp_filter = `

// mainJob does what people do with boxrun on a host, and then with firewalld on that host.
func (h host) mainJob() {
	h.serve(h.probe, "serve", "client", "tcp/:6001")
	before := h.dump()
	h.must("boxrun", "up", "web")
	h.reaches()
	if got := h.must("boxrun", "exec", "web", "--", "hostname"); got != "web\n" {
		h.t.Errorf("hostname in the box says %q, want web", got)
	}
	h.must("boxrun", "down", "web")
	h.same(before, append(stays(), ofUplinks)...)

	h.sh("systemctl enable -q --now firewalld; firewall-cmd -q --state")
	before = h.dump()
	h.must("boxrun", "host", "setup")
	h.must("boxrun", "up", "web")
	h.must("boxrun", "enable", "web")
	h.must("systemctl", "stop", "boxrun-watch@host") // the kernel tells it of all rules but those of iptables-legacy
	h.healsThrough("systemctl restart firewalld")
	h.must("systemctl", "start", "boxrun-watch@host")
	h.healsThrough("systemctl restart firewalld")
	h.healsThrough("systemctl reload firewalld")
	h.healsThrough("firewall-cmd -q --reload")
	h.healsThrough("firewall-cmd -q --complete-reload || true") // a host in namespaces unloads no modules, which 0.9 calls a failure
	h.heals("systemctl stop firewalld")
	h.page()
	h.healsThrough("systemctl start firewalld")
	h.stopsWhileStarting("boxrun restart web")
	h.must("boxrun", "up", "web")
	h.must("boxrun", "disable", "web")
	h.must("boxrun", "down", "web")
	h.must("boxrun", "host", "reset")
	h.sh("systemctl reset-failed firewalld; systemctl restart firewalld; firewall-cmd -q --state")
	h.same(before, append(stays(), touched, ofUplinks)...)

	h.must("boxrun", "enable", "web")
	if err := h.Reboot(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.page()
}

// healsThrough is heals for a command on firewalld, which flushes at a time of its own after the command has ended. The two
// seconds begin when firewalld answers again.
func (h host) healsThrough(command string) {
	h.t.Helper()
	h.heals(command + "; sleep 0.3; firewall-cmd -q --state || true")
	h.page()
}
