package e2e

import (
	"testing"

	"boxrun/e2e/testhost"
)

// On Debian 12 the main verbs do as on the test host of the other tests. Its firewalld 1.3, which the Enterprise Linuxes
// have too, takes its name on the bus first, and flushes everybody's rules half a second later.
func TestMainJobOnDebian12(t *testing.T) {
	h := bootHost(t, testhost.NewDebian12)
	before := h.dump()
	h.must("boxrun", "up", "web")
	h.page()
	if got := h.must("boxrun", "exec", "web", "--", "hostname"); got != "web\n" {
		t.Errorf("hostname in the box says %q, want web", got)
	}
	h.must("boxrun", "down", "web")
	h.same(before, stays()...)

	h.sh("systemctl enable -q --now firewalld; firewall-cmd -q --state")
	before = h.dump()
	h.must("boxrun", "host", "setup")
	h.must("boxrun", "up", "web")
	h.must("boxrun", "enable", "web")
	h.healsThrough("systemctl restart firewalld")
	h.healsThrough("systemctl restart firewalld")
	h.healsThrough("systemctl reload firewalld")
	h.healsThrough("firewall-cmd -q --reload")
	h.healsThrough("firewall-cmd -q --complete-reload")
	h.must("boxrun", "disable", "web")
	h.must("boxrun", "down", "web")
	h.must("boxrun", "host", "reset")
	h.sh("systemctl reset-failed firewalld; systemctl restart firewalld; firewall-cmd -q --state")
	h.same(before, append(stays(), touched, `^/sys/fs/cgroup/system.slice/system-boxrun`)...) // systemd 252 keeps slices of templates

	h.must("boxrun", "enable", "web")
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.page()
}

// healsThrough is heals for a command on firewalld, which flushes at a time of its own after the command has ended.
func (h host) healsThrough(command string) {
	h.t.Helper()
	h.heals(command + "; sleep 0.3; firewall-cmd -q --state")
	h.page()
}
