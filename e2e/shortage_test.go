package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// fillRun puts a small file system on /run/boxrun, full but for so many pages; freeRun takes it away.
const (
	fillRun = `mkdir -p /run/boxrun && mount -t tmpfs -o mode=755,size=1M tmpfs /run/boxrun
		head -c $((1048576 - 4096 * %d)) /dev/zero > /run/boxrun/filler 2> /dev/null || true`
	freeRun = `umount /run/boxrun`
)

// A full /run stops an up at any of its writes. It says so, leaves nothing, and when there is room again all works.
func TestAFullRun(t *testing.T) {
	d := newDamaged(t)
	pages := []int{0, 1, 3, 6}
	if soak() {
		pages = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 28, 32, 40}
	}
	for _, free := range pages {
		t.Run(fmt.Sprintf("%d pages are free", free), func(t *testing.T) {
			d := d.at(t)
			d.sh(fmt.Sprintf(fillRun, free))
			r := d.bounded("boxrun", "up", "web")
			if r.Code != 0 && (!slices.Contains([]int{1, 4}, r.Code) || !strings.Contains(r.Stderr, "no space left on device")) {
				t.Errorf("up: %v\nwant that there is no space", r)
			}
			if r.Code != 0 {
				if diff := d.clean.Diff(d.dump(), append(left(), `/run/boxrun`)...); diff != "" {
					t.Errorf("up failed: %v\nand left:\n%s", r, diff)
				}
			}
			if r := d.bounded("boxrun", "down", "web"); r.Code != 0 {
				t.Errorf("down with /run full: %v", r)
			}
			d.sh(freeRun)
			d.works()
		})
	}
}

// A /run that fills up while a box is up does not keep it from being taken down, or from being looked at.
func TestRunFillsUpUnderABox(t *testing.T) {
	d := newDamaged(t)
	d.must("boxrun", "up", "web")
	d.sh(`mount -t tmpfs -o mode=755,size=1M tmpfs /mnt; cp -a /run/boxrun/. /mnt; mount --move /mnt /run/boxrun
		head -c 1048576 /dev/zero > /run/boxrun/filler 2> /dev/null || true; rm /run/boxrun/filler
		head -c $(( $(stat -f -c '%a * %S' /run/boxrun) )) /dev/zero > /run/boxrun/filler`)
	for _, argv := range [][]string{{"ps"}, {"status", "web"}, {"exec", "web", "--", "true"}, {"down", "web"}} {
		if r := d.bounded(append([]string{"boxrun"}, argv...)...); r.Code != 0 {
			t.Errorf("%s: %v", argv[0], r)
		}
	}
	d.sh(freeRun)
	d.sh("rm -rf /run/boxrun") // what the file system that was put above it has hidden
	d.works()
}

// at gives the same host for a subtest.
func (d *damaged) at(t *testing.T) *damaged {
	other := *d
	other.t = t
	return &other
}

// bounded runs a command that has to end within half a minute, well or not.
func (d *damaged) bounded(argv ...string) testhost.Result {
	d.t.Helper()
	began := time.Now()
	r := d.run(argv...)
	if took := time.Since(began); took > 30*time.Second {
		d.t.Errorf("%s took %v: %v", strings.Join(argv, " "), took, r)
	}
	return r
}

// works wants the box to come up, to answer and to go without a trace.
func (d *damaged) works() {
	d.t.Helper()
	d.must("boxrun", "up", "web")
	d.page()
	d.must("boxrun", "down", "web")
	d.same(d.clean, left()...)
}

// stales are what a host may find of boxes that are gone, and what else may look like one, as scripts. hello is up.
func stales() []struct{ name, script string } {
	const record = `mkdir -p /root/.apptainer/instances/app/host/root/%[1]s
		record() { cat > /root/.apptainer/instances/app/host/root/%[1]s/%[1]s.json; }
		hello=$(jq -r .state.init.pid /run/boxrun/boxes/hello.json); master=$(jq -r .state.master.pid /run/boxrun/boxes/hello.json)
		`
	web, other := fmt.Sprintf(record, "web"), fmt.Sprintf(record, "other")
	const of = `{"pid":%s,"ppid":%s,"name":"web","user":"root","image":"/srv/web","config":"","userns":false,"cgroup":false,"ip":"",` +
		`"logErrPath":"","logOutPath":"","checkpoint":"","sharensMode":false}`
	return []struct{ name, script string }{
		{"an empty record", web + `record < /dev/null`},
		{"half a record", web + `echo '{"pid":12,"ppi' | record`},
		{"a record of processes that are gone", web + `echo '` + fmt.Sprintf(of, "4000001", "4000000") + `' | record`},
		{"a record whose master is now another instance's", web + `echo '` + fmt.Sprintf(of, "'$hello'", "'$master'") + `' | record`},
		{"a record whose init is now another instance's", web + `echo '` + fmt.Sprintf(of, "'$hello'", "4000000") + `' | record`},
		{"an empty record of another instance", other + `record < /dev/null`},
		{"a directory of a record without one", web},
		{"leases of the dead", `mkdir -p /run/boxrun/leases/boxrun-sbr0 /var/lib/cni/networks/bridge
			for i in $(seq 3 40); do printf '4000000\r\neth0' > /run/boxrun/leases/boxrun-sbr0/10.22.0.$i; done
			for i in $(seq 3 40); do printf '4000000\r\neth0' > /var/lib/cni/networks/bridge/10.22.0.$i; done`},
		{"chains of a box without state", `iptables -t nat -N BOXRUN-DN-gone; iptables -t nat -A BOXRUN-DNAT -m comment --comment boxrun:gone -j BOXRUN-DN-gone
			iptables -t nat -A BOXRUN-DN-gone -p tcp --dport 80 -m comment --comment boxrun:gone -j DNAT --to-destination 10.22.0.99:80`},
		{"a lock file of a boxrun that was killed", `mkdir -p /run/boxrun/locks; echo 'boxrun up web (pid 4000000)' > /run/boxrun/locks/box-web.lock`},
		{"half a state file", `mkdir -p /run/boxrun/boxes; echo '{"version": 1, "sta' > /run/boxrun/boxes/.web.json.new`},
	}
}

// Nothing that is left of the dead, or looks like it, keeps a box from starting, or harms one that runs.
func TestStaleThings(t *testing.T) {
	d := newDamaged(t)
	d.must("boxrun", "up", "hello")
	time.Sleep(settled)
	clean := d.dump()
	for _, stale := range stales() {
		t.Run(stale.name, func(t *testing.T) {
			d := d.at(t)
			d.sh(stale.script)
			d.must("boxrun", "up", "web")
			d.page()
			d.must("boxrun", "exec", "web", "--", "true")
			d.must("boxrun", "restart", "web")
			d.must("boxrun", "down", "web")
			d.client("curl", "-sS", "-m", "5", "http://192.0.2.1:8080/")
			d.same(clean, append(left(), `^/root/.apptainer/instances/app/host/root(/other| d )`, `^/var/lib/cni/networks(/bridge)? d `)...)
			d.sh("rm -rf /root/.apptainer/instances/app/host/root/other; grep -rLs ^boxrun: /var/lib/cni/networks | xargs -r rm") // hello's lease stays
		})
	}
}

// A number that the kernel has given to another process since is nobody of the box's: it is not signalled.
func TestAReusedNumberIsLeftAlone(t *testing.T) {
	d := newDamaged(t)
	for _, cure := range []string{"down", "up"} {
		t.Run(cure, func(t *testing.T) {
			d := d.at(t)
			d.must("boxrun", "up", "web")
			// The box is gone, its state came too late, and its numbers are those of sleepers.
			d.sh(`state=/run/boxrun/boxes/web.json; cp $state /tmp/state
				boxrun down web; mkdir -p /run/boxrun/boxes
				sleep 300 > /dev/null 2>&1 & init=$!; sleep 300 > /dev/null 2>&1 & master=$!
				jq ".state.init.pid = $init | .state.master.pid = $master" < /tmp/state > $state; echo $init $master > /tmp/sleepers`)
			if got := boxes(d.host); len(got) != 1 || got[0].State != "crashed" || got[0].PID != 0 {
				t.Errorf("ps says %+v, want a crashed box without a process", got)
			}
			d.must("boxrun", cure, "web")
			if cure == "up" {
				d.page()
				d.must("boxrun", "down", "web")
			}
			d.sh("kill $(cat /tmp/sleepers); rm /tmp/state /tmp/sleepers") // they live
			d.same(d.clean, left()...)
		})
	}
}

// A box whose systemd hangs is told apart from one that works, by every verb in bounded time.
func TestAHungBox(t *testing.T) {
	d := newDamaged(t)
	d.must("boxrun", "up", "web")
	d.sh(initOfWeb + "kill -STOP $init")
	for _, test := range []struct {
		argv []string
		code int
		word string
	}{
		{[]string{"ps"}, 0, ""},
		{[]string{"status", "web"}, 0, ""},
		{[]string{"up", "web"}, 5, "systemd"},
		{[]string{"exec", "web", "--", "true"}, 0, ""}, // needs no systemd
		{[]string{"down", "web"}, 6, "killed"},
	} {
		if r := d.bounded(append([]string{"boxrun"}, test.argv...)...); r.Code != test.code || !strings.Contains(r.Stderr, test.word) {
			t.Errorf("%s: %v, want exit code %d and a word about %q", test.argv[0], r, test.code, test.word)
		}
	}
	d.works()
}

// The power may go at any moment: what is on the disk then keeps nothing from working after.
func TestPowerCuts(t *testing.T) {
	d := newDamaged(t)
	d.profile("web", keeping("/var/kept")+strings.TrimPrefix(hardened, "image = \"/srv/web\"\n"))
	d.ready()
	parts := []float64{0.5}
	if soak() {
		parts = []float64{0.1, 0.25, 0.4, 0.55, 0.7, 0.85}
	}
	cuts := 0
	for _, verb := range []string{"up", "down"} {
		for _, part := range parts {
			for _, cure := range []string{"up", "down"} {
				cuts++
				t.Run(fmt.Sprintf("at %.0f%% of %s, then %s", 100*part, verb, cure), func(t *testing.T) { d.at(t).cut(verb, part, cure) })
			}
		}
	}
	t.Logf("%d power cuts", cuts)
}

// cut cuts the power so far into a verb, boots again, and checks that the box can be used.
func (d *damaged) cut(verb string, part float64, cure string) {
	d.t.Helper()
	took := d.up
	if verb == "down" {
		took = d.down
		d.must("boxrun", "up", "web")
		d.must("boxrun", "exec", "web", "--", "sh", "-c", "echo kept > /etc/mark; sync /etc/mark")
	}
	d.sh(fmt.Sprintf("boxrun %s web > /dev/null 2>&1 & sleep %.3f", verb, part*took.Seconds()))
	if err := d.Reboot(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	if got := boxes(d.host); len(got) != 0 {
		d.t.Errorf("after the power cut ps says %+v", got)
	}
	d.must("boxrun", cure, "web")
	if cure == "up" {
		d.page()
		if verb == "down" {
			d.must("boxrun", "exec", "web", "--", "grep", "-qx", "kept", "/etc/mark")
		}
		d.must("boxrun", "down", "web")
	}
	d.works()
}

// A profile that a full disk cuts short is in nobody's way.
func TestProfileInitOnAFullDisk(t *testing.T) {
	h := newHost(t)
	h.sh(`mount -t tmpfs -o size=4k tmpfs /mnt; head -c 4096 /dev/zero > /mnt/filler`)
	const line = "cd /mnt && boxrun profile init new builtin:hello"
	h.fails(1, []string{"boxrun: error: ", "new.toml: no space left on device"}, "bash", "-c", line)
	h.gives("filler\n", "ls", "-A", "/mnt")
	h.sh("mount -o remount,size=1M /mnt; " + line)
}
