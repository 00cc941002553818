package e2e

import (
	"strings"
	"testing"
)

// What makes a host too slow for Apptainer until /run/go is there: the lock of the leases is taken, or a scope's turn does not
// come.
const (
	heldLeases = `flock /run/boxrun/leases/boxrun-sbr0/lock sh -c 'touch /run/held; until [ -e /run/go ]; do sleep 0.02; done' &
until [ -e /run/held ]; do sleep 0.02; done`
	heldScope = `mkdir -p /etc/systemd/system/apptainer-.scope.d; printf '[Unit]\nAfter=held.service\n' > /etc/systemd/system/apptainer-.scope.d/held.conf
printf '[Service]\nType=oneshot\nExecStart=sh -c "until [ -e /run/go ]; do sleep 0.02; done"\n' > /etc/systemd/system/held.service
systemctl daemon-reload; systemctl start --no-block held`
)

// lostPlugins tells of each plugin of CNI that works for a box that is gone.
const lostPlugins = `for f in $(grep -lsz ^CNI_CONTAINERID= /proc/[0-9]*/environ); do
	[ -e /proc/$(tr '\0' '\n' < $f | sed -n s/^CNI_CONTAINERID=//p) ] || echo "$f works for the dead"
done
`

// A start that Apptainer gave up because the host was too slow is cleared whole, and tried once more.
func TestASlowHostIsTriedOnceMore(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "hello") // whose leases stay
	h.sh("boxrun up web; boxrun enable web; boxrun disable web; boxrun down web")
	before := h.dump()
	const plugins = "a plugin that connects boxes was killed; Apptainer gives them 5 s together"
	for _, c := range []struct{ name, hold, up, log, cause string }{
		{"plugins", heldLeases, "boxrun up web > /run/said 2>&1", "cat /run/said", plugins},
		{"plugins of an enabled box", heldLeases, "boxrun enable web; systemctl start boxrun@web", "journalctl -q -o cat -u boxrun@web", plugins},
		{"scope", heldScope, "boxrun up web > /run/said 2>&1", "cat /run/said",
			"the host's systemd did not make the box's scope within the 30 s that Apptainer waits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			said := h.sh("rm -f /run/held /run/go; : > /run/said\n" + c.hold + "\n(" + c.up + ") & up=$!\n" +
				"until " + c.log + " | grep -q 'trying again$' || ! kill -0 $up; do sleep 0.05; done\n" + lostPlugins + "touch /run/go; wait $up || :\n" + c.log)
			if told := "boxrun: web: the box did not start: " + c.cause + "; trying again\n"; strings.Count(said, told) != 1 {
				t.Errorf("up says\n%swant once\n%s", said, told)
			}
			if strings.Contains(said, "works for the dead") {
				t.Errorf("as the second try began:\n%s", said)
			}
			h.page()
			if got := h.sh("ls /sys/class/net/sbr0/brif | wc -l; ls /run/boxrun/leases/boxrun-sbr0 | grep -c '^10'; " +
				"systemctl list-units --all --no-legend 'apptainer-*' | wc -l; systemctl --failed -q"); got != "2\n2\n2\n" {
				t.Errorf("veths, leases, scopes, and failed units:\n%swant two, two, two, and none", got)
			}
			h.sh("boxrun disable web; boxrun down web; rm -rf /etc/systemd/system/apptainer-.scope.d /etc/systemd/system/held.service; systemctl daemon-reload")
			h.same(before, stays()...)
		})
	}
}

// A host that stays too slow gets one more try and no third, and none at all where the box is to be stopped.
func TestAHostThatStaysSlow(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "hello")
	h.sh("boxrun up web; boxrun down web")
	before := h.dump()
	for _, c := range []struct {
		name, meanwhile string
		tries           int
	}{
		{"alone", ":", 1},
		{"to go down", "until [ -e /run/boxrun/boxes/web.json ]; do sleep 0.02; done; boxrun down web &", 0},
		{"stopped", "until grep -qsz CNI_COMMAND=DEL /proc/[0-9]*/environ; do sleep 0.02; done; systemctl stop boxrun-web", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			r := h.run("bash", "-c", "rm -f /run/held /run/go\n"+heldLeases+"\nboxrun up web & up=$!\n"+c.meanwhile+"\nwait $up; code=$?; touch /run/go; wait; exit $code")
			if r.Code != 4 || strings.Count(r.Stderr, "; trying again\n") != c.tries {
				t.Errorf("up: %v\nwant %d more tries", r, c.tries)
			}
			h.same(before, stays()...)
		})
	}
}

// A watch that is stopped while the bus keeps it waiting has not failed: its unit is gone with the last box that was enabled.
func TestAWatchIsStoppedAsItStarts(t *testing.T) {
	h := newHost(t)
	h.sh(`kill -STOP $(pidof dbus-daemon); boxrun enable web
until [ "$(systemctl is-active boxrun-watch@host)" = activating ] && ls -l /proc/$(systemctl show -P MainPID boxrun-watch@host)/fd | grep -q socket: ; do sleep 0.02; done
boxrun disable web; kill -CONT $(pidof dbus-daemon)`)
	h.gives("", "systemctl", "--failed", "--no-legend", "--plain")
}
