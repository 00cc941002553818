package cluster

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// shop tests HAProxy on every host, in front of boxes on every host, as the page has it.
func (s site) shop(t *testing.T, page guide, rounds int) {
	t.Run("HAProxy", func(t *testing.T) {
		s := s.in(t)
		s.must(1, "for r in pages page-address; do crm_resource -r $r --meta -p target-role -v Stopped; done")
		profile, script := page.files["HAProxy in front"], page.typed("HAProxy in front")
		s.profile("shop", profile)
		s.everywhere(func(n int) {
			s.must(n, "cat > /etc/haproxy/haproxy.cfg <<'END'\n"+page.files["haproxy.cfg"]+"END\nhaproxy -c -q -f /etc/haproxy/haproxy.cfg\n"+script)
		})
		s.must(1, page.typed("HAProxy with crm"))
		s.together()
		c := s.ask("http://198.51.100.54/")
		s.box = "shop-address"
		for _, e := range shopEvents(rounds) {
			t.Log(e.name)
			s.suffers(e, c, rounds)
		}
		s.updates(c, profile, strings.Split(page.typed("Draining"), "\n"))
	})
}

// shopEvents are what hardly anybody notices who asks HAProxy. The crash, which takes longest, is left to many rounds.
func shopEvents(rounds int) []event {
	all := []event{
		{"box killed, and standby of the host with the address", 1500 * time.Millisecond, 3, site.shopSuffers, site.shopMends},
		{
			"crash of another host", 1500 * time.Millisecond, 8,
			func(s site, holder int) { s.crash(other(holder)) },
			func(s site, holder int) { s.reboot(other(holder)) },
		},
	}
	if rounds == 1 {
		return all[:1]
	}
	return all
}

// shopSuffers kills a box of another host than that with the address, which goes into standby then.
func (s site) shopSuffers(holder int) {
	s.of("shop").killInit(other(holder))
	s.standby(holder)
}

func (s site) shopMends(holder int) {
	s.online(holder)
	s.of("shop").forget(holder)
}

// of gives the same site, for what happens to another box.
func (s site) of(box string) site {
	s.box = box
	return s
}

// updates drains one host after the other, and starts its box anew with another profile. steps are the commands of the page:
// drain, look, start anew, take in. No request goes to a host that is drained, and none is lost.
func (s site) updates(c *client, profile string, steps []string) {
	s.t.Helper()
	s.profile("shop", profile+"[ready]\ntimeout = \"80s\"\n")
	s.answers(c)
	holder, began := s.holder(), time.Now()
	for n := range s.hosts {
		s.must(n+1, steps[0])
		s.shown(holder, steps[1], testhost.NodeName(n+1)+",0,DRAIN (agent)")
		before := s.requests(holder, n+1)
		s.must(n+1, "old=$(boxrun ps --json shop | jq '.[0].pid'); "+steps[2]+"; test $old != $(boxrun ps --json shop | jq '.[0].pid')")
		if after := s.requests(holder, n+1); after != before {
			s.t.Errorf("%d requests went to %s, which is drained", after-before, testhost.NodeName(n+1))
		}
		s.must(n+1, steps[3])
		s.shown(holder, steps[1], testhost.NodeName(n+1)+",0,UP")
	}
	s.answers(c)
	if _, lost := outage(c.since(began)); lost > 3 {
		s.t.Errorf("an update of all hosts, one after the other: %d questions lost, want 3 at most", lost)
	} else {
		s.t.Logf("an update of all hosts, one after the other: %d questions lost of %d", lost, len(c.since(began)))
	}
}

// shown waits until a command prints a line.
func (s site) shown(n int, command, line string) {
	s.t.Helper()
	s.eventually(patience, func() string {
		out := s.must(n, command)
		if strings.Contains(out+"\n", line+"\n") {
			return ""
		}
		return command + " shows no line " + line + ":\n" + out
	})
}

// requests gives how many requests the HAProxy of a host has given to the box of the nth.
func (s site) requests(haproxy, n int) int {
	s.t.Helper()
	total, err := strconv.Atoi(s.must(haproxy, "echo 'show stat' | socat - /run/haproxy/admin.sock | grep ^boxes,"+testhost.NodeName(n)+", | cut -d, -f 8"))
	if err != nil || total == 0 {
		s.t.Fatalf("HAProxy gave %d requests to %s: %v", total, testhost.NodeName(n), err)
	}
	return total
}
