package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// A fault is something that goes wrong on a host, as a script. It may find nothing to do its harm to.
type fault struct {
	name   string
	script string
	codes  []int // how the verb that it strikes may end; nil: as any verb that fails or succeeds
	frozen bool  // the box does not stop by itself any more, and only a new one works
	orphan bool  // a plugin of Apptainer's may live on without either, and take its lease when all is over
}

// The processes of a start, as the host's pkill finds them; pkill's own command line does not match.
const (
	killMaster = `pkill -KILL -o -f '^[A]pptainer instance: root .web'`
	initOfWeb  = `init=$(jq .state.init.pid /run/boxrun/boxes/web.json 2> /dev/null); [ "${init:-0}" -gt 1 ] && `
	flushAll   = `for table in raw mangle nat filter; do iptables -w -t $table -F; iptables -w -t $table -X; done`
)

func faults() []fault {
	return []fault{
		{name: "boxrun killed", script: `pkill -KILL -x boxrun`, codes: []int{0, 1, 4, 137}},
		{name: "Apptainer's command killed", script: `pkill -KILL -f '^[a]pptainer .*instance start'`},
		{name: "boxrun and Apptainer's command killed", script: `pkill -KILL -x boxrun; pkill -KILL -f '^[a]pptainer .*instance start'`,
			codes: []int{0, 1, 4, 137}},
		{name: "master killed", script: killMaster},
		{name: "boxrun and master killed", script: `pkill -KILL -x boxrun; ` + killMaster, codes: []int{0, 1, 4, 137}, orphan: true},
		{name: "init killed", script: initOfWeb + `kill -KILL $init`},
		{name: "box frozen", script: initOfWeb + `kill -STOP $init`, codes: []int{0, 1, 4, 5, 6}, frozen: true},
		{name: "all rules flushed", script: flushAll},
		{name: "system bus stopped", script: `systemctl stop dbus.socket dbus.service`},
	}
}

// A moment is when a fault strikes: so far into a verb, or between two.
type moment struct {
	verb string // up | down; "": while the box is up
	part float64
}

func (m moment) String() string {
	if m.verb == "" {
		return "while it is up"
	}
	return fmt.Sprintf("at %.0f%% of %s", 100*m.part, m.verb)
}

func moments() []moment {
	list := []moment{{}}
	for i := range 8 {
		list = append(list, moment{"up", (float64(i) + 0.5) / 8})
	}
	for i := range 4 {
		list = append(list, moment{"down", (float64(i) + 0.5) / 4})
	}
	return list
}

// A blow is one combination: the fault, when it strikes, and the verb that puts things right.
type blow struct {
	fault
	moment
	cure string // up | down
}

func (b blow) String() string { return fmt.Sprintf("%s %s, then %s", b.name, b.moment, b.cure) }

// blows gives all combinations, or of each fault a few that differ in moment and cure from those of the next.
func blows() []blow {
	var all []blow
	for i, f := range faults() {
		for j, m := range moments() {
			for k, cure := range []string{"down", "up"} {
				if soak() || (2*j+k+9*i)%13 == 0 {
					all = append(all, blow{f, m, cure})
				}
			}
		}
	}
	return all
}

// hardened is the profile of faults: what hangs is given up soon.
const hardened = "image = \"/srv/web\"\n[network]\nports = [\"80\"]\n[systemd]\nstop_timeout = \"5s\"\n" +
	"[ready]\nunits = [\"nginx.service\"]\nhttp = [\"http://:80/\"]\ntimeout = \"6s\"\n"

// damaged is a host that takes blow after blow.
type damaged struct {
	host
	up, down time.Duration
	clean    testhost.Dump // as it is without a box
}

func newDamaged(t *testing.T) *damaged {
	d := &damaged{host: newHost(t)}
	d.profile("web", hardened)
	d.ready()
	return d
}

// ready takes the measure of a host that has just booted.
func (d *damaged) ready() {
	d.t.Helper()
	d.must("boxrun", "up", "web")
	d.must("boxrun", "down", "web")
	d.up, d.down = d.timed("up", "web"), d.timed("down", "web")
	d.clean = d.dump()
}

// left are the lines of a dump that tell nothing of a box: locks that nobody holds any more, and after a boot the other end
// of the host's wire.
func left() []string {
	return []string{`^/run/boxrun/locks/`, `^/run/boxrun(/locks)? d `, `^/run/boxrun/apptainer.conf f `, `^[0-9]+: eth0@if`}
}

// Whatever dies or breaks, and whenever it does, one up or one down puts right: the box works, or nothing of it is left.
func TestFaults(t *testing.T) {
	d := newDamaged(t)
	all := blows()
	for i, b := range all {
		ok := t.Run(b.String(), func(t *testing.T) {
			d.at(t).take(b)
		})
		if !ok && i < len(all)-1 {
			if err := d.Reboot(t.Context()); err != nil {
				t.Fatal(err)
			}
			d.ready()
		}
	}
	t.Logf("%d combinations of %d faults, %d moments and 2 cures", len(all), len(faults()), len(moments()))
}

// take lets one blow strike and checks that the host recovers.
func (d *damaged) take(b blow) {
	d.t.Helper()
	if b.verb != "up" {
		d.must("boxrun", "up", "web")
	}
	r := d.strike(b)
	if b.name == "system bus stopped" {
		d.sh("systemctl start dbus.socket dbus.service") // the service as well: nobody may have asked for anything since
	}
	d.checkVerb(b, r)
	if b.cure == "up" {
		d.recover(b)
	}
	if r := d.run("boxrun", "down", "web"); r.Code != 0 && (!b.frozen || r.Code != 6) {
		d.t.Errorf("down: %v", r)
	}
	time.Sleep(settled)
	if b.orphan && d.clean.Diff(d.dump(), left()...) != "" {
		d.works() // the next one collects the lease
		return
	}
	d.same(d.clean, left()...)
}

// strike runs the fault in the middle of its verb, and gives how that ended.
func (d *damaged) strike(b blow) testhost.Result {
	d.t.Helper()
	if b.verb == "" {
		return d.run("bash", "-c", b.script+"; true")
	}
	after := map[string]time.Duration{"up": d.up, "down": d.down}[b.verb]
	script := fmt.Sprintf("boxrun %s web & verb=$!; sleep %.3f; { %s; }; wait $verb", b.verb, b.part*after.Seconds(), b.script)
	began := time.Now()
	r := d.run("bash", "-c", script)
	if took := time.Since(began); took > 30*time.Second {
		d.t.Errorf("it took %v to end: %v", took, r)
	}
	return r
}

// checkVerb judges how a verb ended that was struck: whatever it was, it says what is wrong; and an up that says that the
// box did not start has left nothing of it.
func (d *damaged) checkVerb(b blow, r testhost.Result) {
	d.t.Helper()
	d.t.Logf("%q ended with %d", b.verb, r.Code)
	codes := b.codes
	if codes == nil {
		codes = []int{0, 1, 4}
	}
	if !slices.Contains(codes, r.Code) {
		d.t.Errorf("%s: %v\nwant an exit code of %v", b.verb, r, codes)
	}
	if r.Code != 0 && r.Code != 137 && !strings.Contains(r.Stderr, "boxrun: error: ") {
		d.t.Errorf("%s: %v\nwant the reason", b.verb, r)
	}
	if b.verb == "up" && (r.Code == 1 || r.Code == 4) {
		if diff := d.clean.Diff(d.dump(), left()...); diff != "" {
			d.t.Errorf("up failed: %v\nand left:\n%s", r, diff)
		}
	}
}

// recover brings the box up again, and asks it for its page.
func (d *damaged) recover(b blow) {
	d.t.Helper()
	r := d.run("boxrun", "up", "web")
	if b.frozen && r.Code == 5 {
		if r = d.run("boxrun", "restart", "web"); r.Code == 6 {
			r.Code = 0
		}
	}
	if r.Code != 0 {
		d.t.Errorf("up: %v", r)
	}
	d.page()
	if got := boxes(d.host); len(got) != 1 || got[0].State != "running" {
		d.t.Errorf("ps says %+v, want the box running", got)
	}
}
