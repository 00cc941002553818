package e2e

import (
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// otherInits are the inits that Debian has beside systemd, with their executables: the signal that boxrun stops each with,
// and what "boxrun logs" has of each. sysvinit writes to /dev/console, which no box has. Those that boxrun stops as it does
// one that comes before are for soaks.
var otherInits = []struct {
	name, exe, signal, logged string
	soak                      bool
}{
	{"init", "init", "SIGINT", "", false},
	{"init-openrc", "init", "SIGINT", "", true},
	{"openrc-init", "openrc-init", "SIGTERM", "Starting serve", false},
	{"runit", "runit", "SIGCONT", "enter stage: /etc/runit/2", false},
	{"finit", "finit", "SIGTERM", "Starting Finit", false},
	{"busybox", "busybox", "SIGUSR2", "ready", false},
	{"s6-svscan", "s6-svscan", "SIGTERM", "ready", true},
}

// A box with another init than systemd comes up, is looked at and entered, and stops in good order by the signal that its
// init knows, told once. Of units, which it has none of, up says so at once.
func TestOtherInits(t *testing.T) {
	h := newHost(t)
	for _, i := range otherInits {
		t.Run(i.name, func(t *testing.T) {
			if i.soak && !soak() {
				t.Skip("at full length only: make soak")
			}
			h := h.in(t)
			if err := h.AddInit(t.Context(), i.name, func(step string) { t.Log(step) }); err != nil {
				t.Fatal(err)
			}
			h.sh("mkdir -p /var/mark; rm -f /var/mark/*")
			h.profile("box", initBox(i.name, ""))
			if r := h.run("boxrun", "up", "box"); r.Code != 0 || !strings.Contains(r.Stderr, "its init is "+i.exe+", not systemd: a stop sends "+i.signal+"\n") {
				t.Fatalf("up: %v", r)
			}
			h.gives("none\n", "sh", "-c", "boxrun status --json box | jq -r .systemd")
			h.gives(i.exe+"\n", "boxrun", "exec", "box", "--", "sh", "-c", "basename $(readlink /proc/1/exe)")
			if got := h.must("boxrun", "logs", "box"); !strings.Contains(got, i.logged) {
				t.Errorf("logs have no %q:\n%s", i.logged, got)
			}
			h.profile("box", initBox(i.name, `units = ["serve.service"]`))
			h.fails(5, []string{"unit serve.service: the box runs no systemd, but " + i.exe}, "timeout", "60", "boxrun", "up", "--replace", "box")
			h.gives("stopped\n", "cat", "/var/mark/stopped")
			h.profile("box", initBox(i.name, ""))
			h.must("boxrun", "up", "--replace", "box")
			h.sh("rm /var/mark/stopped")
			h.gives("1\n", "sh", "-c", toldBy+" 2> /root/said; grep -c ', "+i.signal+"[,)]' /root/told")
			h.gives("stopped\n", "cat", "/var/mark/stopped")
			h.sh("rm -r " + testhost.InitImage(i.name))
		})
	}
}

// toldBy is a down that notes which signals it sends. Where boxrun may send them again, the service takes two seconds to end.
const toldBy = "strace -f -qq -e trace=kill,pidfd_send_signal -e signal=none -o /root/told boxrun down box"

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
