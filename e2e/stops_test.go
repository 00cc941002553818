package e2e

import (
	"strings"
	"testing"
	"time"
)

// A down between two tries of systemd to start a box ends the tries: there is nothing of the box then but that systemd waits.
func TestADownBetweenTwoStarts(t *testing.T) {
	h := newHost(t)
	h.profile("never", "image = \"/srv/never\"\n")
	h.sh("mkdir -p /srv/never/bin; boxrun enable never; systemctl start boxrun@never || true")
	if said := eventually(10*time.Second, func() string {
		return strings.TrimPrefix(h.must("systemctl", "show", "-P", "SubState", "boxrun@never"), "auto-restart\n")
	}); said != "" {
		t.Fatalf("the service is %s, want it between two starts", said)
	}
	h.tells([]string{"never: is down\n"}, "boxrun", "down", "never")
	tries := h.must("systemctl", "show", "-P", "NRestarts", "boxrun@never")
	time.Sleep(3 * time.Second) // longer than systemd waits before it starts one anew
	h.gives(tries, "systemctl", "show", "-P", "NRestarts", "boxrun@never")
	h.tells([]string{"never: is not up\n"}, "boxrun", "down", "never")
}
