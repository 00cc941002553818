package e2e

import (
	"os"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// On Debian 12 the main verbs do as on the test host of the other tests. Its firewalld 1.3, which the Enterprise Linuxes
// have too, takes its name on the bus first, and flushes everybody's rules half a second later.
func TestMainJobOnDebian12(t *testing.T) {
	h := bootHost(t, testhost.NewDebian12)
	h.listed("Debian 12")
	h.mainJob()
}

// Debian 11 is supported no longer. Its firewalld 0.9 and systemd 247 are near those of Enterprise Linux 8.
func TestMainJobOnDebian11(t *testing.T) {
	if !soak() {
		t.Skip("at full length only: make soak")
	}
	h := bootHost(t, testhost.NewDebian11)
	h.listed("Debian 11")
	h.mainJob()
}

// Debian's unstable suite changes daily, and so is no measure for a change of boxrun.
func TestMainJobOnSid(t *testing.T) {
	if !soak() {
		t.Skip("at full length only: make soak")
	}
	h := bootHost(t, testhost.NewSid)
	t.Log(h.versions("Debian sid"))
	h.mainJob()
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

// mainJob does what people do with boxrun on a host with firewalld.
func (h host) mainJob() {
	before := h.dump()
	h.must("boxrun", "up", "web")
	h.page()
	if got := h.must("boxrun", "exec", "web", "--", "hostname"); got != "web\n" {
		h.t.Errorf("hostname in the box says %q, want web", got)
	}
	h.must("boxrun", "down", "web")
	h.same(before, stays()...)

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
	h.same(before, append(stays(), touched)...)

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
