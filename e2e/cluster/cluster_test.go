package cluster

import (
	"cmp"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// address is the virtual address of the site.
const address = "198.51.100.50"

// TestCluster has three hosts be a cluster, with a box behind a virtual address, and does to them what happens to hosts.
// BOXRUN_CLUSTER says how often each thing happens.
func TestCluster(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("BOXRUN_CLUSTER"))
	if err != nil {
		t.Skip("boots three hosts, for minutes: run \"make test-cluster\"")
	}
	began := time.Now()
	s := newSite(t)
	s.form()
	s.write(1, "site.crm", "/root/site.crm", 0o600)
	s.must(1, "pcs cluster cib /root/offline.xml; crm -F configure load update /root/site.crm")
	page := readPage(t)
	s.same(page.typed("The same on all hosts"))
	s.must(1, page.typed("With crm"))
	c := s.ask("http://" + address + "/")
	s.answers(c)
	t.Logf("answers %v after the first boot began", time.Since(began))
	for _, e := range events() {
		t.Run(e.name, func(t *testing.T) {
			s.in(t).suffers(e, c, rounds)
		})
	}
	s.oneWriterAtATime()
	t.Run("database", func(t *testing.T) {
		s.in(t).newDatabase(page.files["A database"], page.typed("A database")).survives(t, rounds)
	})
	s.clones(t, page, rounds)
	s.must(1, "pcs() { command pcs -f /root/offline.xml \"$@\"; }\n"+page.typed("With pcs")+page.typed("HAProxy with pcs"))
}

// An event is something that happens to a cluster.
type event struct {
	name   string
	within time.Duration            // how long nobody may answer, in the median
	lost   int                      // how many questions may get no answer, in the median
	happen func(s site, holder int) // to the host that has the box
	mend   func(s site, holder int) // what a person does after
}

// anyNumber of questions may be lost while nobody answers: the time counts.
const anyNumber = math.MaxInt / 3

func events() []event {
	return []event{
		{"init killed", 1500 * time.Millisecond, anyNumber, site.killInit, site.forget},
		{"rules flushed", 4 * time.Second, anyNumber, site.flushRules, site.sameBox},
		{"planned move", 1200 * time.Millisecond, anyNumber, site.move, site.stay},
		{"standby", 1200 * time.Millisecond, anyNumber, site.standby, site.online},
		{"host crash", 6 * time.Second, anyNumber, site.crash, site.reboot},
		{"cable pulled", 7 * time.Second, anyNumber, site.pullCable, site.reboot},
		{"stop that takes too long", 15 * time.Second, anyNumber, site.hangStop, site.unhangStop},
	}
}

// suffers has an event happen some times, and wants the median of the time without an answer, and of the questions lost, to
// be within the event's. Few rounds may all have bad luck with the moment of a monitor, and get three times as much. A single one
// on a machine that has been busy is no measure: where it is not within, two more decide.
func (s site) suffers(e event, c *client, rounds int) {
	s.t.Helper()
	if rounds < 5 {
		e.within, e.lost = 3*e.within, 3*e.lost
	}
	var took []time.Duration
	var missed []int
	for len(took) < rounds || rounds == 1 && len(took) < 3 && !e.bears(took, missed) {
		longest, lost := s.suffer(e, c)
		s.t.Logf("%v without an answer, %d questions lost", longest, lost)
		took, missed = append(took, longest), append(missed, lost)
	}
	s.t.Logf("median %v, from %v to %v; %d questions lost, from %d to %d",
		median(took), slices.Min(took), slices.Max(took), median(missed), slices.Min(missed), slices.Max(missed))
	if !e.bears(took, missed) {
		s.t.Errorf("%v without an answer and %d questions lost, want %v and %d at most", median(took), median(missed), e.within, e.lost)
	}
}

// bears reports whether times without an answer, and questions lost, are within the event's in the median.
func (e event) bears(took []time.Duration, missed []int) bool {
	return median(took) <= e.within && median(missed) <= e.lost
}

func median[T cmp.Ordered](all []T) T { return slices.Sorted(slices.Values(all))[len(all)/2] }

// settles is when an event has begun to be felt, at the latest, and a question without an answer is given up.
const settles = 3500 * time.Millisecond

// suffer has an event happen, waits until the client has its answers again, and gives how long it had none.
func (s site) suffer(e event, c *client) (longest time.Duration, lost int) {
	s.t.Helper()
	s.answers(c)
	holder, began := s.holder(), time.Now()
	e.happen(s, holder)
	time.Sleep(time.Until(began.Add(settles)))
	s.answers(c)
	longest, lost = outage(c.since(began))
	e.mend(s, holder)
	s.together()
	return longest, lost
}

// answers waits until the client has had answers for a while.
func (s site) answers(c *client) {
	s.t.Helper()
	s.eventually(patience, func() string {
		if c.answering() {
			return ""
		}
		return s.status()
	})
}

// form starts Corosync and Pacemaker everywhere, and waits for the three to be one.
func (s site) form() {
	s.t.Helper()
	s.everywhere(func(n int) {
		// A cluster that was never there waits 20 s for others to elect somebody.
		s.must(n, `file=/var/lib/pacemaker/cib/cib.xml
install -d -o hacluster -g haclient -m 750 ${file%/*}
cibadmin --empty > $file
export CIB_file=$file; crm_attribute -q -n dc-deadtime -v 2s; crm_attribute -q -n stonith-enabled -v true
chown hacluster:haclient $file*; chmod 600 $file*
systemctl start corosync pacemaker`)
	})
	s.together()
}

// together waits until all hosts are online in one cluster, and know what runs where.
func (s site) together() {
	s.t.Helper()
	s.eventually(patience, func() string {
		s.powerUp()
		r, err := s.run(1, "test $(crm_node -p | wc -w) = 3; crm_mon -1 | grep -q 'Online: .*node1 node2 node3'; crm_resource --wait -T 20s")
		if err != nil || r.Code != 0 {
			return s.status()
		}
		return ""
	})
}

// same wants a script to print the same on all hosts.
func (s site) same(script string) {
	s.t.Helper()
	first := s.must(1, script)
	for n := 2; n <= len(s.hosts); n++ {
		if other := s.must(n, script); other != first || first == "" {
			s.t.Errorf("node%d has\n%s\nand node1\n%s", n, other, first)
		}
	}
}

// status gives what a person would look at: what each host runs, and the cluster as the first one that knows has it.
func (s site) status() string {
	var hosts, cluster string
	for n := range s.hosts {
		name := testhost.NodeName(n + 1)
		r, err := s.run(n+1, `systemctl is-active corosync pacemaker || journalctl -b -n 20 -u corosync -u pacemaker
crm_mon -1rf > /root/mon && cat /root/mon >&2`)
		if err != nil {
			hosts += name + ": " + err.Error() + "\n"
			continue
		}
		hosts += name + ":\n" + r.Stdout
		if cluster == "" && r.Code == 0 {
			cluster = name + ":\n" + r.Stderr
		}
	}
	return hosts + cluster
}
