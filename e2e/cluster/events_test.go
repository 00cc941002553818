package cluster

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"boxrun/e2e/testhost"
)

// holder gives the number of the host where the box is, as the cluster has it.
func (s site) holder() int {
	s.t.Helper()
	_, name, _ := strings.Cut(s.must(1, "crm_resource -r "+s.box+" --locate 2> /dev/null"), "running on: node")
	n, err := strconv.Atoi(strings.TrimSpace(name))
	if err != nil {
		s.t.Fatalf("the box is nowhere:\n%s", s.status())
	}
	return n
}

// other gives the number of a host beside the nth.
func other(n int) int { return n%3 + 1 }

// killInit kills the first process of the box.
func (s site) killInit(holder int) {
	s.must(holder, "kill -9 $(boxrun ps --json "+s.box+" | jq '.[0].pid')")
}

// forget clears away what the cluster remembers of failures.
func (s site) forget(int) { s.must(1, "crm_resource -C -r "+s.box) }

// flushRules takes all rules away, as the restart of a firewall does.
func (s site) flushRules(holder int) {
	s.must(holder, "boxrun ps --json | jq '.[0].pid' > /root/init; iptables -t nat -F")
}

// sameBox wants the box to be the one of before flushRules, and well.
func (s site) sameBox(holder int) {
	s.must(holder, "test $(cat /root/init) = $(boxrun ps --json | jq '.[0].pid'); boxrun status --check web")
}

// move has the box move to another host.
func (s site) move(holder int) {
	s.must(1, "crm_resource -r "+s.box+" --move --node "+testhost.NodeName(other(holder)))
}

// stay ends the preference that move made.
func (s site) stay(int) { s.must(1, "crm_resource -r "+s.box+" --clear") }

func (s site) standby(holder int) {
	s.must(1, "crm_standby -N "+testhost.NodeName(holder)+" -v on")
}

func (s site) online(holder int) {
	s.must(1, "crm_standby -N "+testhost.NodeName(holder)+" -D")
}

// crash cuts the power of a host, of which the cluster is told by nobody.
func (s site) crash(holder int) {
	if err := s.hosts[holder-1].Kill(); err != nil {
		s.t.Fatal(err)
	}
}

func (s site) pullCable(holder int) {
	if err := s.hosts[holder-1].PullCable(); err != nil {
		s.t.Fatal(err)
	}
}

// reboot starts a host that has no power.
func (s site) reboot(n int) {
	s.t.Helper()
	err := s.hosts[n-1].Reboot(s.t.Context())
	if err == nil {
		var r testhost.Result
		if r, err = s.run(n, "systemctl start corosync pacemaker"); r.Code != 0 {
			err = fmt.Errorf("%v, %w", r, err)
		}
	}
	if err != nil && s.hosts[n-1].Powered() { // else fenced again meanwhile: together starts the host
		s.t.Fatalf("node%d: %v", n, err)
	}
}

// powerUp starts what a person would: hosts that were fenced once more while they booted, and the cluster on hosts that
// left it, as one does that is told of its own fencing late.
func (s site) powerUp() {
	s.t.Helper()
	for n := range s.hosts {
		if !s.hosts[n].Powered() {
			s.t.Logf("%s was fenced once more", testhost.NodeName(n+1))
			s.reboot(n + 1)
		}
		r, err := s.run(n+1, `systemctl is-active -q corosync && systemctl is-active -q pacemaker && exit
journalctl -b -n 20 -o short-precise -u corosync -u pacemaker
systemctl reset-failed
systemctl start corosync pacemaker`)
		if err == nil && r.Stdout != "" {
			s.t.Logf("%s had left the cluster:\n%s", testhost.NodeName(n+1), r.Stdout)
		}
	}
}

// oneWriterAtATime wants the lives of boxes, as they are in the shared directory, to come one after the other.
func (s site) oneWriterAtATime() {
	s.t.Helper()
	log, err := os.ReadFile(s.hosts[0].Shared("data/log"))
	if err != nil {
		s.t.Fatal(err)
	}
	var lives []string
	for line := range strings.Lines(string(log)) {
		life, _, _ := strings.Cut(line, " ")
		switch {
		case len(lives) > 0 && lives[len(lives)-1] == life:
		case slices.Contains(lives, life):
			s.t.Fatalf("two boxes wrote at once: %s after %s", life, lives[len(lives)-1])
		default:
			lives = append(lives, life)
		}
	}
	s.t.Logf("%d boxes wrote, one after the other", len(lives))
}

// hangStop has another boxrun hold the box for good, so that a stop takes longer than it may: the host is fenced.
func (s site) hangStop(holder int) {
	s.t.Helper()
	s.must(holder, "pcs resource update "+s.box+" op stop timeout=5s; mkdir -p /run/boxrun/locks"+
		"; systemd-run -q flock /run/boxrun/locks/box-"+s.box+".lock sleep 300")
	s.move(holder)
	s.eventually(patience, func() string {
		if r, err := s.run(holder, "true"); err == nil && r.Code == 0 {
			return testhost.NodeName(holder) + " has power"
		}
		return ""
	})
}

func (s site) unhangStop(holder int) {
	s.reboot(holder)
	s.together()
	s.stay(holder)
	s.must(holder, "pcs resource update "+s.box+" op stop timeout=150s")
}
