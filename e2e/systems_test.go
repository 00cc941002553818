package e2e

import (
	"strings"
	"testing"
)

// A box with each release's systemd, 247 to 262, runs at the level default without a failed unit, and gives a service its
// credentials. The image is the root of the host itself, so that host and box have the same systemd.
func TestBoxesOfEachSystemd(t *testing.T) {
	sideBySide(t)
	for _, r := range releases() {
		t.Run(r.name, func(t *testing.T) {
			if !soak() {
				t.Skip("a host of each release, in a soak")
			}
			h := bootHost(t, r.boot)
			h.sh("mkdir -p /srv/own; mount --bind / /srv/own")
			h.profile("own", "image = \"/srv/own\"\n[systemd]\nstop_timeout = \"5s\"\n")
			up := h.run("boxrun", "up", "own")
			state := h.run("boxrun", "exec", "own", "--", "systemctl", "is-system-running").Stdout
			failed := h.run("boxrun", "exec", "own", "--", "systemctl", "--failed", "--no-legend", "--plain").Stdout
			t.Log(strings.SplitN(h.run("boxrun", "exec", "own", "--", "systemctl", "--version").Stdout, "\n", 2)[0])
			if up.Code != 0 || state != "running\n" || failed != "" {
				t.Errorf("up: %v\nthe box is %q, with failed units:\n%s\n%s", up, state, failed, h.run("boxrun", "logs", "-p", "warning", "-n", "40", "own").Stdout)
			}
			secret := h.run("boxrun", "exec", "own", "--", "systemd-run", "-q", "--wait", "--pipe", "-p", "User=www-data",
				"-p", "LoadCredential=name:/etc/hostname", "sh", "-c", "cat $CREDENTIALS_DIRECTORY/name")
			if secret.Stdout != "own\n" && secret.Stdout != h.must("cat", "/etc/hostname") || secret.Code != 0 {
				t.Errorf("a service of www-data got as its credential %v", secret)
			}
			h.run("boxrun", "down", "own")
		})
	}
}
