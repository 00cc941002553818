package e2e

import (
	"strings"
	"testing"
	"time"
)

// What an administrator does to a host while a box is up, that has little to do with boxrun. The subtests share a host,
// on which no box is up before and after each.
func TestEdges(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "down", "web")
	before := h.dump()
	for _, c := range []struct {
		name string
		do   func(host)
	}{
		{"no box to repair", host.repairsNothing},
		{"no address inside", host.losesItsAddress},
		{"leases that cannot be read", host.hasOddLeases},
		{"killed at once", host.killsAtOnce},
		{"a new name", host.isRenamed},
		{"a terminal on a serial line", host.hasNoSerialLine},
		{"a bus that has to be woken", host.sleepsOnTheBus},
		{"a doctor while systemd starts it anew", host.isMendedInBetween},
		{"dead at once", host.diesAtOnce},
		{"a record that cannot be read", host.looksPastARecord},
		{"a reset with a record that cannot be read", host.isResetBlindly},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			c.do(h)
			h.same(before, append(stays(), `^/etc(/[a-z./-]*)? d `)...) // directories have another size
		})
	}
}

func (h host) repairsNothing() {
	if r := h.run("boxrun", "repair"); r.Code != 0 || r.Stderr != "boxrun: no box is up\n" {
		h.t.Errorf("repair: %v", r)
	}
}

// intoWeb runs a command of the host's in the network of the box.
const intoWeb = "nsenter -n -t $(jq .state.init.pid /run/boxrun/boxes/web.json) "

func (h host) losesItsAddress() {
	h.must("boxrun", "up", "web")
	h.sh(intoWeb + "ip addr flush dev eth0")
	want := "drifted:     the box has no address inside: \"boxrun restart web\" gives it one\n"
	if got := h.must("boxrun", "status", "web"); !strings.Contains(got, want) {
		h.t.Errorf("status says\n%s\nwant %s", got, want)
	}
	for _, verb := range []string{"up web", "repair"} {
		h.fails(1, []string{"web has no address inside\n", "boxrun: hint: \"boxrun restart web\" gives it one\n"},
			append([]string{"boxrun"}, strings.Fields(verb)...)...)
	}
	h.must("boxrun", "restart", "web")
	h.page()
	h.must("boxrun", "down", "web")
}

// Another runtime's leases keep no box from coming and going.
func (h host) hasOddLeases() {
	h.sh("mkdir -p /var/lib/cni/networks/other/lock; echo 4194000 > /var/lib/cni/networks/other/10.99.0.9")
	for _, verb := range []string{"up", "down"} {
		r := h.run("boxrun", verb, "web")
		if want := "boxrun: warning: locking leases: open /var/lib/cni/networks/other/lock: is a directory\n"; r.Code != 0 || !strings.Contains(r.Stderr, want) {
			h.t.Errorf("%s: %v\nwant %s", verb, r, want)
		}
	}
	h.sh("rm -r /var/lib/cni/networks/other; rmdir /var/lib/cni/networks")
}

func (h host) killsAtOnce() {
	h.must("boxrun", "up", "web")
	r := h.run("boxrun", "down", "-t", "0", "web")
	if r.Code != 0 || !strings.Contains(r.Stderr, "boxrun: web: is down, killed at once\n") {
		h.t.Errorf("down: %v", r)
	}
}

// Apptainer keeps its record of a box below the name that the host had at the start.
func (h host) isRenamed() {
	h.must("boxrun", "up", "web")
	name := strings.TrimSpace(h.must("hostname"))
	h.must("hostname", "newname")
	defer h.must("hostname", name)
	for range 2 {
		if got := h.sh("echo hi | boxrun exec web -- sed s/^/$(boxrun exec web -- hostname)/"); got != "webhi\n" {
			h.t.Errorf("exec says %q", got)
		}
	}
	if got := h.must("boxrun", "logs", "-n", "1", "web"); got == "" {
		h.t.Error("logs are empty")
	}
	h.must("boxrun", "down", "web")
}

// hasNoSerialLine boots a box whose image enables a login on a serial line, for which systemd would wait 90 s.
func (h host) hasNoSerialLine() {
	h.sh("mkdir /srv/wants; ln -s /lib/systemd/system/serial-getty@.service /srv/wants/serial-getty@ttyS0.service")
	h.profile("serial", "image = \"/srv/web\"\n[storage]\nbinds = [\"/srv/wants:/etc/systemd/system/getty.target.wants\"]\n")
	h.must("boxrun", "up", "--wait-timeout", "30s", "serial")
	if got := h.must("boxrun", "exec", "serial", "--", "systemctl", "show", "-P", "LoadState", "serial-getty@ttyS0"); got != "masked\n" {
		h.t.Errorf("the unit is %q, want it masked", got)
	}
	h.must("boxrun", "down", "serial")
	h.sh("rm -r /srv/wants /etc/boxrun/profiles/serial.toml")
}

// The bus is started by who calls first. At the end of a box that is Apptainer.
func (h host) sleepsOnTheBus() {
	h.must("boxrun", "up", "web")
	h.sh("systemctl stop dbus.socket dbus.service 2> /dev/null; systemctl start dbus.socket")
	if took := h.timed("down", "web"); took > 8*time.Second {
		h.t.Errorf("down took %v", took)
	}
}

// systemd waits for two seconds before it starts a box anew. A doctor who mends in that time leaves that to it.
func (h host) isMendedInBetween() {
	h.must("boxrun", "enable", "web")
	h.must("systemctl", "start", "boxrun@web")
	h.sh("kill -KILL $(jq .state.init.pid /run/boxrun/boxes/web.json)\n" +
		"timeout 20 sh -c 'until systemctl show -P SubState boxrun@web | grep -q auto-restart; do sleep 0.05; done'\n" +
		"boxrun doctor --fix web > /dev/null || true")
	said := eventually(20*time.Second, func() string {
		list := boxes(h)
		if len(list) == 1 && list[0].State == "running" && list[0].Restarts == 1 {
			return ""
		}
		return h.must("boxrun", "ps")
	})
	if said != "" {
		h.t.Errorf("the box is not started anew:\n%s", said)
	}
	h.must("boxrun", "down", "web")
	h.must("boxrun", "disable", "web")
}

// A box that dies as soon as up has returned has crashed, as one that dies later. One that is powered off inside goes.
func (h host) diesAtOnce() {
	h.profile("brief", "image = \"builtin:hello\"\n")
	defer h.must("rm", "/etc/boxrun/profiles/brief.toml")
	for range 3 {
		h.sh("boxrun up brief; kill -9 $(jq .state.init.pid /run/boxrun/boxes/brief.json)")
		h.awaitUnit("boxrun-brief.service", "inactive")
		if got := boxes(h); len(got) != 1 || got[0].State != "crashed" {
			h.t.Errorf("ps says %+v, want the box crashed", got)
		}
	}
	h.must("boxrun", "down", "brief")
	h.sh("boxrun up web; boxrun exec web -- systemctl poweroff || true")
	h.awaitUnit("boxrun-web.service", "inactive")
	h.gives("", "boxrun", "ps", "-q")
}

// One record that cannot be read is no reason to leave the other boxes alone, and down gets past it.
func (h host) looksPastARecord() {
	h.profile("other", "image = \"builtin:hello\"\n[network]\nports = [\"8099:80\"]\n")
	defer h.must("rm", "/etc/boxrun/profiles/other.toml")
	h.must("boxrun", "up", "web", "other")
	h.sh(`sed -i 's/"version": 1/"version": 2/' /run/boxrun/boxes/other.json; iptables -t nat -F BOXRUN-DN-web`)
	unread := []string{"other.json is of version 2", "boxrun: hint: \"boxrun down other\" stops the box"}
	h.fails(1, append(unread, "boxrun: mended: web: "), "boxrun", "repair")
	h.page()
	h.sh("iptables -t nat -F BOXRUN-DN-web")
	h.fails(1, append(unread, "boxrun: mended: web: "), "boxrun", "doctor", "--fix")
	h.page()
	got := h.run("boxrun", "doctor").Stdout
	if !containsAll(got, []string{"FAIL  leftovers  boxes", "cannot read the records of: other\n", "fix: boxrun down other\n"}) ||
		strings.Count(got, "FAIL") != 1 {
		h.t.Errorf("doctor says\n%s\nwant the record that cannot be read, and no other failure", got)
	}
	if r := h.run("boxrun", "host", "setup", "--dry-run"); r.Code != 0 || !containsAll(r.Stderr, []string{"other.json is of version 2"}) {
		h.t.Errorf("host setup --dry-run: %v, want the files, and a warning", r)
	}
	h.must("boxrun", "down", "other")
	h.sh("! pgrep -f '^[A]pptainer instance.*other' || exit 1; iptables-save | grep -c BOXRUN-DN-web; ! iptables-save | grep BOXRUN-DN-other")
	h.must("boxrun", "repair")
	h.must("boxrun", "down", "web")
}

// A box in the host's network is on no bridge, and known by its name alone.
func (h host) isResetBlindly() {
	h.profile("shared", "image = \"builtin:hello\"\n[network]\nmode = \"host\"\n")
	defer h.must("rm", "/etc/boxrun/profiles/shared.toml")
	h.must("boxrun", "up", "shared")
	for _, harm := range []string{"echo cut > /run/boxrun/boxes/shared.json", "rm /run/boxrun/boxes/shared.json"} {
		h.sh(harm)
		h.fails(1, []string{"boxrun: error: boxes are up: shared\n"}, "boxrun", "host", "reset")
	}
	h.must("boxrun", "host", "reset", "--force")
	h.sh("! pgrep -f '^[A]pptainer instance'")
}
