package cluster

import (
	"os"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// address is the virtual address of the site.
const address = "198.51.100.50"

// TestCluster has three hosts be a cluster, with a box behind a virtual address, and does to them what happens to hosts.
func TestCluster(t *testing.T) {
	if os.Getenv("BOXRUN_CLUSTER") == "" {
		t.Skip("boots three hosts, for minutes: run \"make test-cluster\"")
	}
	began := time.Now()
	s := newSite(t)
	t.Logf("booted after %v", time.Since(began))
	s.form()
	t.Logf("online after %v", time.Since(began))
	s.write(1, "site.crm", "/root/site.crm", 0o600)
	s.must(1, "crm -F configure load update /root/site.crm")
	t.Logf("configured after %v", time.Since(began))
	c := s.ask("http://" + address + "/")
	s.eventually(patience, func() string {
		if c.answering() {
			return ""
		}
		return s.status()
	})
	t.Logf("answers after %v\n%s", time.Since(began), s.status())
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
	s.eventually(patience, func() string {
		r, err := s.run(1, "test $(crm_node -p | wc -w) = 3 && crm_mon -1 | grep -q 'Online: .*node1 node2 node3'")
		if err != nil || r.Code != 0 {
			return s.status()
		}
		return ""
	})
}

// status gives what a person would look at.
func (s site) status() string {
	for n := range s.hosts {
		if r, err := s.run(n+1, "crm_mon -1rf"); err == nil && r.Code == 0 {
			return testhost.NodeName(n+1) + ":\n" + r.Stdout
		}
	}
	return "no host knows anything of the cluster"
}
