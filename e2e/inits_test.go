package e2e

import (
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// otherInits are the inits that Debian has beside systemd, by their executables: the signal that boxrun stops each with, and
// what "boxrun logs" has of each. sysvinit writes to /dev/console, which no box has.
var otherInits = []struct{ name, signal, logged string }{
	{"init", "SIGINT", ""},
	{"openrc-init", "SIGTERM", "Starting serve"},
	{"runit", "SIGCONT", "enter stage: /etc/runit/2"},
	{"finit", "SIGTERM", "Starting Finit"},
	{"busybox", "SIGUSR2", "ready"},
	{"s6-svscan", "SIGTERM", "ready"},
}

// A box with another init than systemd comes up, is looked at and entered, and stops in good order by the signal that its
// init knows. Of units, which it has none of, up says so at once.
func TestOtherInits(t *testing.T) {
	h := newHost(t)
	for _, i := range otherInits {
		t.Run(i.name, func(t *testing.T) {
			h := h.in(t)
			if err := h.AddInit(t.Context(), i.name, func(step string) { t.Log(step) }); err != nil {
				t.Fatal(err)
			}
			h.sh("mkdir -p /var/mark; rm -f /var/mark/*")
			h.profile("box", initBox(i.name, ""))
			if r := h.run("boxrun", "up", "box"); r.Code != 0 || !strings.Contains(r.Stderr, "its init is "+i.name+", not systemd: a stop sends "+i.signal+"\n") {
				t.Fatalf("up: %v", r)
			}
			h.gives("none\n", "sh", "-c", "boxrun status --json box | jq -r .systemd")
			h.gives(i.name+"\n", "boxrun", "exec", "box", "--", "sh", "-c", "basename $(readlink /proc/1/exe)")
			if got := h.must("boxrun", "logs", "box"); !strings.Contains(got, i.logged) {
				t.Errorf("logs have no %q:\n%s", i.logged, got)
			}
			h.profile("box", initBox(i.name, `units = ["serve.service"]`))
			h.fails(5, []string{"unit serve.service: the box runs no systemd, but " + i.name}, "timeout", "60", "boxrun", "up", "--replace", "box")
			h.gives("stopped\n", "cat", "/var/mark/stopped")
			h.must("boxrun", "down", "box")
			h.sh("rm -r " + testhost.InitImage(i.name))
		})
	}
}

// initBox is the profile of a box with the named init, whose service notes in /mark that it was told to stop.
func initBox(name, ready string) string {
	return `image = "` + testhost.InitImage(name) + `"
[storage]
binds = ["/usr/local/bin/probe:/usr/local/bin/probe:ro", "/var/mark:/mark"]
[ready]
tcp     = [7000]
timeout = "1h"
` + ready + `
[systemd]
stop_timeout = "1m"
`
}
