package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// A box shares the host's kernel: whatever root it has, the units that would write there do not run, nor those that the
// profile masks, and services have the profile's environment.
func TestABoxLeavesTheKernelAlone(t *testing.T) {
	h := newHost(t)
	queue := strings.TrimSpace(h.must("sysctl", "-n", "fs.inotify.max_queued_events"))
	h.sh("echo fs.inotify.max_queued_events=$((" + queue + " + 1)) > /srv/kernel.conf")
	for _, root := range []string{"tmpfs", "overlay", "read-only"} {
		t.Run(root, func(t *testing.T) {
			h := h.in(t)
			h.profile("told", strings.Replace(`image = "/srv/web"
[storage]
root  = "ROOT"
binds = ["/srv/kernel.conf:/etc/sysctl.d/99-kernel.conf:ro"]
[systemd]
environment = { GREETING = "50%% \"off\" $HOME \\ %%n" }
mask = ["nginx.service"]
`, "ROOT", root, 1))
			h.must("boxrun", "up", "told")
			state := h.sh("boxrun exec told -- systemctl show --value -p LoadState systemd-sysctl.service systemd-udevd.service " +
				"systemd-udev-trigger.service systemd-modules-load.service systemd-timesyncd.service nginx.service | sort | uniq -c")
			if got := strings.Join(strings.Fields(state), " "); got != "6 masked" && !strings.HasSuffix(got, " 6 masked") {
				t.Errorf("the units are %s, want 6 masked", got)
			}
			if got := strings.TrimSpace(h.must("sysctl", "-n", "fs.inotify.max_queued_events")); got != queue {
				t.Errorf("the host's sysctl is %s, want %s", got, queue)
			}
			got := h.must("boxrun", "exec", "told", "--", "systemd-run", "-q", "--pipe", "--wait", "printenv", "GREETING")
			if want := "50% \"off\" $HOME \\ %n\n"; got != want {
				t.Errorf("a service has GREETING=%q, want %q", got, want)
			}
			theirs := h.must("boxrun", "exec", "told", "--", "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ")
			if regexp.MustCompile(`(?m)^(INVOCATION_ID|SYSTEMD_EXEC_PID|MEMORY_PRESSURE_WATCH)=`).MatchString(theirs) {
				t.Errorf("the box's init has of the host's service\n%s", theirs)
			}
			h.must("boxrun", "down", "told")
		})
	}
}

// ailing makes units for a box in which one fails and one takes its time at boot; ailingProfile binds them.
const ailing = `mkdir -p /srv/units/multi-user.target.d
echo '[Unit]
Wants=fire.service slow.service' > /srv/units/multi-user.target.d/wants.conf
echo '[Service]
Type=oneshot
ExecStart=sh -c "echo the disk is on fire; exit 3"' > /srv/units/fire.service
echo '[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=sleep 2' > /srv/units/slow.service
`

const ailingProfile = `image = "/srv/web"
[storage]
binds = ["/srv/units/multi-user.target.d:/etc/systemd/system/multi-user.target.d", "/srv/units/fire.service:/etc/systemd/system/fire.service",
         "/srv/units/slow.service:/etc/systemd/system/slow.service"]
`

// up waits until the boot is over, and tells of units that failed with what they said: it is a warning, but where the
// profile wants the unit, and then nobody waits for what cannot come.
func TestUpTellsOfUnitsThatFailed(t *testing.T) {
	h := newHost(t)
	h.sh(ailing)
	h.profile("ailing", ailingProfile)
	r := h.run("boxrun", "up", "ailing")
	if r.Code != 0 || !containsAll(r.Stderr, []string{"ailing: warning: fire.service failed\n", "the disk is on fire"}) {
		t.Errorf("up: %v\nwant exit code 0, and fire.service with what it said", r)
	}
	if got := h.run("boxrun", "exec", "ailing", "--", "systemctl", "is-active", "slow.service"); got.Stdout != "active\n" {
		t.Errorf("after up slow.service is %v, want it active", got)
	}
	if got := h.must("boxrun", "status", "ailing"); !containsAll(got, []string{"degraded", "fire.service"}) {
		t.Errorf("status says\n%s\nwant it degraded, with fire.service", got)
	}
	h.must("boxrun", "down", "ailing")

	h.profile("ailing", ailingProfile+"[ready]\nunits = [\"fire.service\"]\n")
	start := time.Now()
	h.fails(5, []string{"unit fire.service failed (exit-code)", "the disk is on fire", "boxrun: hint: the box stays up"}, "boxrun", "up", "ailing")
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v to say so, want it at once", took)
	}
	if got := h.must("boxrun", "ps", "-q"); got != "ailing\n" {
		t.Errorf("ps -q says %q, want the box to look at", got)
	}
}
