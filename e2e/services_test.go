package e2e

import (
	"strings"
	"testing"
)

// servicesUsed are commands that use the services of a box, and what each has to print at its end.
var servicesUsed = []struct{ name, command, want string }{
	{"MariaDB", "mysql -Ne 'select 40 + 2'", "42"},
	{"PostgreSQL", "runuser -u postgres -- psql -qtAc 'select 40 + 2'", "42"},
	{"a session of a user", "ssh -o StrictHostKeyChecking=no bob@127.0.0.1 'systemctl --user is-active basic.target; loginctl show-session $XDG_SESSION_ID -p Name'",
		"active\nName=bob"},
	{"munge", "munge -n | unmunge | grep -c 'Success (0)'", "1"},
	{"mail", "echo hello | sendmail bob; for i in $(seq 50); do [ -s /var/mail/bob ] && break; sleep 0.1; done; grep -c '^hello$' /var/mail/bob", "1"},
}

// The services that people run, run in a box at the levels that hold root in it, without a failed unit.
func TestServicesAtLevels(t *testing.T) {
	if !soak() {
		t.Skip("a root of its own, in a soak")
	}
	h := newHost(t)
	if err := h.AddServices(t.Context(), func(step string) { t.Log(step) }); err != nil {
		t.Fatal(err)
	}
	for _, level := range []string{"default", "strict"} {
		t.Run(level, func(t *testing.T) {
			h := h.in(t)
			h.profile("services", strings.Replace(secured(level), "/srv/web", "/srv/services", 1))
			h.must("boxrun", "up", "services")
			defer h.run("boxrun", "down", "services")
			for _, used := range servicesUsed {
				r := h.run("boxrun", "exec", "services", "--", "bash", "-c", used.command)
				if r.Code != 0 || strings.TrimSpace(r.Stdout) != used.want {
					t.Errorf("%s: %v\nwant %q", used.name, r, used.want)
				}
			}
			state := h.run("boxrun", "exec", "services", "--", "systemctl", "is-system-running").Stdout
			failed := h.run("boxrun", "exec", "services", "--", "systemctl", "--failed", "--no-legend", "--plain").Stdout
			if state != "running\n" || failed != "" {
				t.Errorf("the box is %q, with failed units:\n%s\n%s", state, failed,
					h.run("boxrun", "exec", "services", "--", "journalctl", "-b", "-p", "warning", "-n", "60", "--no-pager").Stdout)
			}
		})
	}
}
