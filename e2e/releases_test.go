package e2e

import (
	"testing"

	"boxrun/e2e/testhost"
)

// On Debian 12 the main verbs do as on the test host of the other tests. Its firewalld 1.3, which the Enterprise Linuxes
// have too, takes its name on the bus first, and flushes everybody's rules half a second later.
func TestMainJobOnDebian12(t *testing.T) {
	h := bootHost(t, testhost.NewDebian12)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "enable", "web")
	h.heals("systemctl start firewalld")
	h.heals("systemctl restart firewalld")
	h.heals("systemctl reload firewalld")
	h.heals("firewall-cmd -q --reload")
	h.heals("firewall-cmd -q --complete-reload")
}
