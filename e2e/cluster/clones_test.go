package cluster

import (
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// clones tests boxes without data, which run on every host: only their address moves. most is how many questions may get no
// answer when somebody moves the address.
func (s site) clones(t *testing.T, page guide, rounds int) {
	const most = 3
	t.Run("clones", func(t *testing.T) {
		s := s.in(t)
		s.must(1, "crm_resource -r web --meta -p target-role -v Stopped")
		s.profile("page", page.files["Boxes without data"])
		s.must(1, page.typed("Boxes without data"))
		s.together()
		c := s.ask("http://198.51.100.52/")
		s.answers(c)
		s.box = "page-address"
		s.suffers(event{"address moved", time.Second, most, site.move, site.stay}, c, rounds)
	})
	s.shop(t, page, rounds)
	t.Run("keepalived", func(t *testing.T) {
		s := s.in(t)
		s.everywhere(func(n int) { s.must(n, "systemctl stop pacemaker corosync; boxrun enable --now page") })
		script := page.typed("With keepalived")
		for n := 1; n <= 2; n++ {
			s.must(n, script+"cat > /etc/keepalived/keepalived.conf <<'END'\n"+page.files["With keepalived"]+"END\nsystemctl start keepalived")
		}
		c := s.ask("http://198.51.100.53/")
		s.answers(c)
		s.keepalived(c, "stopped", most, "systemctl stop keepalived", "systemctl start keepalived")
		s.keepalived(c, "box unhealthy", int(6*time.Second/every), "boxrun down page", "boxrun up page")
	})
}

// keepalived does something to the host that has the address of keepalived, and wants no more than most questions to get no
// answer.
func (s site) keepalived(c *client, name string, most int, happen, mend string) {
	s.t.Helper()
	s.answers(c)
	holder, began := 1, time.Now()
	if r, err := s.run(1, "ip -4 addr show eth1 | grep -q 198.51.100.53/"); err != nil || r.Code != 0 {
		holder = 2
	}
	s.must(holder, happen)
	time.Sleep(time.Until(began.Add(settles)))
	s.answers(c)
	longest, lost := outage(c.since(began))
	s.must(holder, mend)
	s.t.Logf("%s on %s: %v without an answer, %d questions lost", name, testhost.NodeName(holder), longest, lost)
	if lost > most {
		s.t.Errorf("%s: %d questions lost, want %d at most", name, lost, most)
	}
}
