package e2e

import (
	"strings"
	"testing"
	"time"
)

// An enabled box that is powered off from inside before it is ready has not failed, and stays down. One whose init is killed
// meanwhile has failed, and is started again.
func TestPoweredOffWhileItStarts(t *testing.T) {
	h := newHost(t)
	h.profile("late", "image = \"/srv/web\"\n[ready]\ntcp = [7999]\ntimeout = \"1h\"\n")
	h.must("boxrun", "enable", "late")
	start := func() {
		h.sh("systemctl start --no-block boxrun@late; until [ \"$(boxrun ps --json | jq -r '.[0].state')\" = running ]; do sleep 0.05; done;" +
			" boxrun exec late -- systemctl is-system-running --wait")
	}
	start()
	h.sh("kill -9 $(boxrun ps --json | jq '.[0].pid')")
	if said := eventually(20*time.Second, func() string {
		return strings.TrimPrefix(h.must("systemctl", "show", "-P", "NRestarts", "boxrun@late"), "1\n")
	}); said != "" {
		t.Errorf("a box that was killed while it started was started again %q times, want once", said)
	}
	h.must("systemctl", "stop", "boxrun@late")
	h.must("systemctl", "reset-failed")

	start()
	h.run("boxrun", "exec", "late", "--", "systemctl", "--no-block", "poweroff")
	h.awaitUnit("boxrun@late.service", "inactive")
	time.Sleep(3 * time.Second) // longer than systemd waits before it starts one anew
	h.gives("inactive\n", "sh", "-c", "systemctl is-active boxrun@late || true")
	h.gives("", "sh", "-c", "boxrun ps -q; systemctl --failed --no-legend --plain")
	if log := h.must("journalctl", "-q", "-o", "cat", "-u", "boxrun@late"); !strings.Contains(log, "late: the box was powered off from inside before it was ready") {
		t.Errorf("the journal does not tell:\n%s", log)
	}
	h.refusesPoweredOff()
}

// startBy has a shell script start an enabled box, in place of the service's own command.
func (h host) startBy(name, script string) {
	h.t.Helper()
	h.sh("mkdir -p /etc/systemd/system/boxrun@" + name + ".service.d; cat > /etc/systemd/system/boxrun@" + name + ".service.d/zz.conf <<'X'\n" +
		"[Service]\nExecStart=\nExecStart=/bin/bash -c '" + script + "'\nX\nsystemctl daemon-reload")
}

// A service that systemd stopped before its boxrun listened goes at once: the signal is lost, and comes once.
func TestStoppedBeforeItListens(t *testing.T) {
	h := newHost(t)
	h.profile("late", "image = \"/srv/web\"\n[ready]\ntcp = [7999]\ntimeout = \"1h\"\n")
	h.must("boxrun", "enable", "late")
	h.startBy("late", `trap "touch /run/lost" RTMIN+3; touch /run/waits; until [ -e /run/lost ]; do sleep 0.05; done; exec boxrun up late`)
	h.sh("systemctl start --no-block boxrun@late; until [ -e /run/waits ]; do sleep 0.05; done; timeout 60 systemctl stop boxrun@late")
	h.gives("success\n", "systemctl", "show", "-P", "Result", "boxrun@late")
	h.gives("", "boxrun", "ps", "-q")
}

// relay is a program between a service and systemd's notification socket, which has the service stopped before systemd hears
// that it is ready.
const relay = `#!/usr/bin/perl
use IO::Socket::UNIX; use Socket;
my $in = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "/run/relay") or die;
while (defined $in->recv(my $word, 4096)) {
  if ($word =~ /^READY=1/m) {
    system("systemctl", "stop", "--no-block", $ARGV[0]);
    select(undef, undef, undef, 0.02) until ` + "`systemctl is-active $ARGV[0]`" + ` =~ /deactivating/;
  }
  IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{REAL})->send($word);
}
`

// A service that is stopped in the moment when its box is ready takes the box down: systemd waits for nobody who was not told.
func TestStoppedAsItBecomesReady(t *testing.T) {
	h := newHost(t)
	h.profile("ready", "image = \"builtin:hello\"\n")
	h.must("boxrun", "enable", "ready")
	if err := h.Write(t.Context(), "/root/relay", 0o755, strings.NewReader(relay)); err != nil {
		t.Fatal(err)
	}
	h.startBy("ready", `export REAL=$NOTIFY_SOCKET; perl /root/relay boxrun@ready & until [ -S /run/relay ]; do sleep 0.05; done; `+
		`NOTIFY_SOCKET=/run/relay exec boxrun up ready`)
	h.sh("systemctl start boxrun@ready || true; timeout 60 systemctl stop boxrun@ready")
	h.gives("success\n", "systemctl", "show", "-P", "Result", "boxrun@ready")
	h.gives("", "boxrun", "ps", "-q")
}

// refusesPoweredOff wants an up by hand to say that its box was powered off meanwhile.
func (h host) refusesPoweredOff() {
	h.t.Helper()
	h.must("boxrun", "disable", "late")
	r := h.run("bash", "-c", "(until boxrun exec late -- systemctl is-system-running --wait; do sleep 0.05; done; boxrun exec late -- systemctl --no-block poweroff)"+
		" > /dev/null 2>&1 & boxrun up late")
	if r.Code != 4 || !strings.Contains(r.Stderr, "late: the box was powered off from inside before it was ready\n") {
		h.t.Errorf("up: %v", r)
	}
	h.gives("", "boxrun", "ps", "-q")
}

// A box that dies before it is ready is taken away, be its journal in memory: up tells what it said last.
func TestDeathInAStartLeavesWords(t *testing.T) {
	h := newHost(t)
	h.profile("late", "image = \"/srv/web\"\n[ready]\ntcp = [7999]\ntimeout = \"1h\"\n")
	r := h.run("bash", "-c", `boxrun up late & up=$!
until boxrun exec late -- sh -c "systemctl is-system-running --wait; echo my last words | systemd-cat; journalctl --sync"; do sleep 0.05; done > /dev/null 2>&1
kill -9 $(boxrun ps --json | jq '.[0].pid'); wait $up`)
	if r.Code != 4 || !containsAll(r.Stderr, []string{"late: died with these words in its journal:\n", "\nboxrun:     my last words\n", "the box's init ended while"}) {
		t.Errorf("up: %v", r)
	}
	h.gives("", "boxrun", "ps", "-q")
}

// The time that making and checking an overlay image takes is no time of the start: systemd waits, for as long as that takes.
func TestAStartWaitsForItsImage(t *testing.T) {
	h := newHost(t)
	h.profile("first", strings.Replace(keeping("/var/images/first.img"), "[storage]", "network.mode = \"none\"\n[storage]\noverlay_size = \"64M\"", 1))
	h.must("boxrun", "enable", "first")
	h.sh(`mkdir -p /etc/systemd/system/boxrun@first.service.d
printf '[Service]\nTimeoutStartSec=2s\n' > /etc/systemd/system/boxrun@first.service.d/zz.conf
systemctl daemon-reload
mv /usr/sbin/mkfs.ext3 /usr/sbin/mkfs.ext3.real
printf '#!/bin/sh\nsleep 4\nexec mkfs.ext3.real -t ext3 "$@"\n' > /usr/sbin/mkfs.ext3
chmod 755 /usr/sbin/mkfs.ext3`)
	if r := h.run("systemctl", "start", "boxrun@first"); r.Code != 0 {
		t.Errorf("start: %v\n%s", r, h.run("journalctl", "-q", "-o", "cat", "-u", "boxrun@first").Stdout)
	}
	h.gives("0\n", "systemctl", "show", "-P", "NRestarts", "boxrun@first")
	h.must("boxrun", "down", "first")
}
