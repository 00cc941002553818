package cluster

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// boxes is how many there are in a large cluster of three hosts.
const boxes = 50

// A large cluster starts its boxes, looks at each of them every ten seconds, and has all of them run on two hosts after the
// third one lost its power. What the looks cost is in the log.
func TestScale(t *testing.T) {
	if os.Getenv("BOXRUN_SOAK") == "" {
		t.Skip("runs 50 boxes: run \"make soak\"")
	}
	s := newSite(t)
	s.form()
	s.write(1, "site.crm", "/root/site.crm", 0o600)
	s.must(1, "crm -F configure load update /root/site.crm")
	s.profile("many", "image = \"builtin:hello\"\n")
	var all strings.Builder
	for i := range boxes {
		fmt.Fprintf(&all, "primitive many%d ocf:boxrun:box params profile=many@%d watch=0 op start timeout=240s op stop timeout=150s op monitor interval=10s timeout=150s\n", i, i)
	}
	if err := s.hosts[0].Write(t.Context(), "/root/many.crm", 0o600, strings.NewReader(all.String())); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.must(1, "crm -F configure load update /root/many.crm")
	s.allRun(1)
	t.Logf("%d boxes started in %v: %v", boxes, time.Since(began), s.spread())
	const look = time.Minute
	before := s.spent()
	time.Sleep(look)
	for n, usec := range s.spent() {
		t.Logf("node%d: Pacemaker and its monitors took %.1f %% of a processor", n+1, float64(usec-before[n])/float64(look.Microseconds())*100)
	}
	began = time.Now()
	s.crash(3)
	s.eventually(patience, func() string {
		if r, err := s.run(1, "crm_mon -1 | grep -q 'OFFLINE: .*node3'"); err != nil || r.Code != 0 {
			return s.status()
		}
		return ""
	})
	s.hosts = s.hosts[:2]
	s.allRun(1)
	t.Logf("all run again %v after the crash of a host: %v", time.Since(began), s.spread())
}

// allRun waits until all boxes run.
func (s site) allRun(n int) {
	s.t.Helper()
	s.eventually(5*time.Minute, func() string {
		if r, err := s.run(n, "test $(crm_mon -1 | grep -c 'many[0-9]*.*Started') = "+strconv.Itoa(boxes)); err != nil || r.Code != 0 {
			return s.status()
		}
		return ""
	})
}

// spread gives how many boxes run on each host.
func (s site) spread() (on []int) {
	s.t.Helper()
	for n := range s.hosts {
		count, err := strconv.Atoi(s.must(n+1, "boxrun ps --json | jq length"))
		if err != nil {
			s.t.Fatal(err)
		}
		on = append(on, count)
	}
	return on
}

// spent gives the time of processors that Pacemaker and all of its agents took on each host, in microseconds.
func (s site) spent() (usec []int) {
	s.t.Helper()
	for n := range s.hosts {
		count, err := strconv.Atoi(s.must(n+1, "sed -n 's/^usage_usec //p' /sys/fs/cgroup/system.slice/pacemaker.service/cpu.stat"))
		if err != nil {
			s.t.Fatal(err)
		}
		usec = append(usec, count)
	}
	return usec
}
