package e2e

import (
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// A box is a machine for machinectl, systemctl and journalctl of a host with machined, from up to down.
func TestMachined(t *testing.T) {
	if !soak() {
		t.Skip("a root of its own, in a soak")
	}
	h := bootHost(t, testhost.NewEquipped)
	machines := func() string { return h.must("machinectl", "list", "--no-legend") }
	typed := h.sh("boxrun up --dry-run web | grep RegisterMachine")
	h.must("boxrun", "up", "web")
	if got := machines(); !strings.HasPrefix(got, "web container boxrun") {
		t.Errorf("machinectl list says %q", got)
	}
	for command, want := range map[string]string{
		"systemctl -M web is-active nginx":             "active\n",
		"systemd-run -q -M web --pipe --wait hostname": "web\n",
		"machinectl shell -q web /bin/echo hello":      "hello\r\n",
		"journalctl -q -M web -u nginx -o cat -n 1":    "Started nginx.service - A high performance web server and a reverse proxy server.\n",
	} {
		if got := h.must(strings.Fields("timeout 20 " + command)...); got != want {
			t.Errorf("%s prints %q, want %q", command, got, want)
		}
	}
	h.must("boxrun", "restart", "web")
	leader := strings.TrimSpace(h.sh("jq .state.init.pid /run/boxrun/boxes/web.json"))
	if got := h.must("machinectl", "show", "-P", "Leader", "web"); strings.TrimSpace(got) != leader {
		t.Errorf("after a restart the leader is %s, want %s", got, leader)
	}
	for what, script := range map[string]string{
		"a second up": "boxrun up web 2>&1 | grep -q 'machinectl does not know'", "a repair": "boxrun repair 2>&1 | grep -q 'web: .*machinectl does not know'",
		"the command of a dry run": typed, "doctor's fix": "boxrun doctor --fix web",
	} {
		if got := h.must("boxrun", "status", "web") + h.must("boxrun", "diff", "web"); strings.Contains(got, "drift") || strings.Contains(got, "machinectl") {
			t.Errorf("of a box that machined knows status and diff say\n%s", got)
		}
		h.sh("busctl call org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager UnregisterMachine s web")
		if said := h.views("web").contradictions(); len(said) > 0 {
			t.Errorf("of a box that machined forgot the verbs say %q", said)
		}
		for _, verb := range []string{"status", "diff", "doctor"} {
			if got := h.run("boxrun", verb, "web").Stdout; !strings.Contains(got, "machinectl does not know the box") {
				t.Errorf("of a box that machined forgot %s says\n%s", verb, got)
			}
		}
		h.sh(script)
		if got := machines(); !strings.HasPrefix(got, "web container boxrun") {
			t.Errorf("after %s machinectl list says %q", what, got)
		}
	}
	h.sh("systemctl mask -q --now systemd-machined; rm -f /run/systemd/machines/web")
	if got := h.must("boxrun", "status", "web"); strings.Contains(got, "machinectl") {
		t.Errorf("of a box on a host whose machined is masked status says\n%s", got)
	}
	h.sh("systemctl unmask -q systemd-machined; boxrun repair")
	h.must("boxrun", "down", "web")
	if got := h.must("boxrun", "host", "show"); strings.Contains(got, "machine") {
		t.Errorf("host show says\n%s", got)
	}
	if got := machines(); got != "" {
		t.Errorf("after down machinectl list says %q", got)
	}
}
