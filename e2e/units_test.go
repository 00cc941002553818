package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// watched has a unit in it that leaves a note on the host when it is stopped, and says whether the network was still there.
const watched = `image = "/srv/web"
[network]
ports = ["80"]
[storage]
binds = ["/srv/data:/data", "/srv/last.service:/etc/systemd/system/last.service:ro"]
[ready]
http = ["http://:80/"]
`

const lastService = `[Unit]
After=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'sleep 2; ping -c 1 -W 2 ` + testhost.ClientAddr + ` > /dev/null && echo reached >> /data/stopped || echo alone >> /data/stopped'
`

// withWatched gives a host with the profile web replaced by watched.
func withWatched(t *testing.T) host {
	t.Helper()
	h := newHost(t)
	h.profile("web", watched)
	h.sh("mkdir -p /srv/data; cat > /srv/last.service << 'UNIT'\n" + lastService + "UNIT")
	return h
}

// noted wants the box's unit to have been stopped once, with the network there.
func (h host) noted() {
	h.t.Helper()
	if got, want := h.sh("cat /srv/data/stopped 2> /dev/null || true"), "reached\n"; got != want {
		h.t.Errorf("the box's unit noted %q, want %q", got, want)
	}
}

// A box is nobody's session's: its master is in a service of systemd's, and its init in a scope.
func TestABoxOutlivesItsSession(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.sh("systemd-run -q --scope --unit=login sh -c 'boxrun up web; touch /run/is-up; exec sleep 1000' > /dev/null 2>&1 & " +
		"timeout 60 sh -c 'until test -e /run/is-up; do sleep 0.1; done'; systemctl stop login.scope; wait; rm /run/is-up")
	pid := boxes(h)[0].PID
	h.page()
	if got := h.sh("pgrep -x -a boxrun || true"); got != "" {
		t.Errorf("while a box is up these of boxrun run: %s", got)
	}
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "daemon-reexec")
	if got := h.must("systemctl", "is-active", "boxrun-web.service"); got != "active\n" {
		t.Errorf("the service of the box is %s", got)
	}
	if now := boxes(h)[0].PID; now != pid {
		t.Errorf("the box's init is %d, and was %d", now, pid)
	}
	h.must("boxrun", "down", "web")
	if got := h.must("systemctl", "list-units", "--all", "--no-legend", "boxrun*", "apptainer*"); got != "" {
		t.Errorf("down left units: %s", got)
	}
	h.same(before, append(stays(), `^0 /(sbin/init|usr/lib/systemd/systemd) ?`)...) // it has executed itself anew
}

func TestTheHostShutsItsBoxesDownInOrder(t *testing.T) {
	h := withWatched(t)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "exec", "web", "--", "systemctl", "start", "last.service")
	began := time.Now()
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the host took %v to shut down", took)
	}
	if err := h.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.noted()
	if got := h.must("boxrun", "ps", "-q"); got != "" {
		t.Errorf("a box that was started by hand is up after a boot: %s", got)
	}
}

func TestEnabledMeansUpAtBoot(t *testing.T) {
	h := withWatched(t)
	r := h.run("boxrun", "enable", "web")
	if r.Code != 0 || r.Stdout != "" || !strings.Contains(r.Stderr, `"boxrun up web" starts it now`) {
		t.Errorf("enable: %v", r)
	}
	if got := h.must("boxrun", "ps", "-q"); got != "" {
		t.Errorf("enable started %s", got)
	}
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.page()
	if got := h.must("boxrun", "ps"); !strings.Contains(got, "web   running  yes ") {
		t.Errorf("ps says\n%s", got)
	}
	h.must("boxrun", "exec", "web", "--", "systemctl", "start", "last.service")
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.noted()
	h.page()
	h.must("boxrun", "down", "web")
	if got := h.must("boxrun", "ps", "-q"); got != "" {
		t.Errorf("after down, ps -q says %q", got)
	}
	h.isDownBeforeItIsWatched()
	h.isEnabledFromElsewhere()
}

// isDownBeforeItIsWatched takes the box down while systemd begins the "boxrun up" that is to watch it: here another program,
// that does not hear the first signal to stop.
func (h host) isDownBeforeItIsWatched() {
	h.t.Helper()
	const slow = "#!/bin/bash\ntrap 'trap \"exit 0\" RTMIN+3' RTMIN+3\ntouch /run/slow\nwhile :; do sleep 0.1; done\n"
	if err := h.Write(h.t.Context(), "/usr/local/bin/slow", 0o755, strings.NewReader(slow)); err != nil {
		h.t.Fatal(err)
	}
	h.sh(`conf=/etc/systemd/system/boxrun@web.service.d/slow.conf
printf '[Service]\nExecStart=\nExecStart=/usr/local/bin/slow\n' > $conf; systemctl daemon-reload
boxrun up web; timeout 60 sh -c 'until test -e /run/slow; do sleep 0.01; done'
boxrun down web; rm $conf; systemctl daemon-reload`)
}

// isEnabledFromElsewhere starts another box of the name: it is there after a boot as well, from the profile that is enabled.
func (h host) isEnabledFromElsewhere() {
	h.t.Helper()
	h.sh("mkdir -p /srv/mine; echo 'image = \"builtin:hello\"' > /srv/mine/web.toml")
	if got := h.sh("cd /srv/mine; boxrun ps -a --json | jq -r '.[] | select(.name == \"web\") | .file, .enabled'"); got != "web.toml\ntrue\n" {
		h.t.Errorf("ps -a says\n%s", got)
	}
	const warning = "its profile is /srv/mine/web.toml, and the next boot starts /etc/boxrun/profiles/web.toml"
	if r := h.run("boxrun", "up", "/srv/mine/web.toml"); r.Code != 0 || !strings.Contains(r.Stderr, warning) {
		h.t.Errorf("up: %v\nwant %q", r, warning)
	}
	if got := h.must("boxrun", "ps"); !strings.Contains(got, "web   running  yes ") {
		h.t.Errorf("ps says\n%s", got)
	}
	h.sh(`boxrun status web | grep '^enabled: *yes (the next boot starts /etc/boxrun/profiles/web.toml)$'
boxrun status --json web | jq -e '.enabled and .at_boot == "/etc/boxrun/profiles/web.toml"'
boxrun down web; boxrun up web; boxrun status web | grep '^enabled: *yes$'
boxrun disable web; boxrun status web | grep '^enabled: *no$'`)
}

// crash kills the box's init, or its master, and wants it back.
func (h host) crash(what string, restarts int) {
	h.t.Helper()
	was := boxes(h)[0].PID
	pid := was
	if what == "master" {
		pid, _ = strconv.Atoi(strings.TrimSpace(h.must("ps", "-o", "ppid=", "-p", strconv.Itoa(was))))
	}
	h.must("kill", "-9", strconv.Itoa(pid))
	said := eventually(20*time.Second, func() string {
		list := boxes(h)
		if len(list) == 1 && list[0].State == "running" && list[0].PID != was && list[0].Restarts == restarts {
			return ""
		}
		return fmt.Sprintf("%+v", list)
	})
	if said != "" {
		h.t.Fatalf("after kill -9 of its %s the box was %s, want it running anew, restarts %d\n%s", what, said, restarts,
			h.sh("systemctl status --no-pager -n 0 boxrun@web || true; journalctl -q --no-pager -n 60"))
	}
	if said := eventually(20*time.Second, func() string {
		return h.run("curl", "-sSf", "-o", "/dev/null", "-m", "1", "http://127.0.0.1/").Stderr
	}); said != "" {
		h.t.Errorf("after kill -9 of its %s the box did not answer: %s", what, said)
	}
}

func TestAnEnabledBoxComesBackWhenItDies(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.must("boxrun", "up", "web")
	h.must("boxrun", "enable", "web")
	h.awaitUnit("boxrun@web.service", "active")
	h.crash("init", 1)
	h.must("systemctl", "daemon-reload")
	h.crash("master", 2)
	h.must("boxrun", "restart", "web")
	h.awaitUnit("boxrun@web.service", "active")
	h.crash("init", 1)
	h.awaitUnit("boxrun@web.service", "active")
	// What a person ends, here or inside, stays down, and nothing of it is left.
	h.must("boxrun", "exec", "web", "--", "systemctl", "--no-block", "poweroff")
	h.awaitUnit("boxrun@web.service", "inactive")
	time.Sleep(3 * time.Second) // longer than systemd waits before it starts one anew
	if got := h.must("boxrun", "ps", "-q"); got != "" {
		t.Errorf("a box that was powered off from inside is there: %s", got)
	}
	h.must("boxrun", "disable", "web")
	h.same(before, append(stays(), `^/etc(/systemd(/system(/multi-user.target.wants)?)?)? d `)...) // sizes, of an overlay
}

func (h host) awaitUnit(unit, state string) {
	h.t.Helper()
	if said := eventually(20*time.Second, func() string {
		if got := strings.TrimSpace(h.run("systemctl", "is-active", unit).Stdout); got != state {
			return got
		}
		return ""
	}); said != "" {
		h.t.Fatalf("%s is %s, want it %s", unit, said, state)
	}
}

// A box that hangs at its stop is killed, which is no reason to start it anew.
func TestDownOfAnEnabledBoxThatHangs(t *testing.T) {
	h := newHost(t)
	h.profile("web", "image = \"/srv/web\"\n[systemd]\nstop_timeout = \"1s\"\n[storage]\nbinds = [\"/srv/slow.service:/etc/systemd/system/slow.service\"]\n")
	h.sh("printf '[Service]\\nExecStart=/bin/sleep infinity\\nExecStop=/bin/sleep 60\\n' > /srv/slow.service")
	h.must("boxrun", "enable", "web")
	h.must("boxrun", "up", "web")
	h.awaitUnit("boxrun@web.service", "active")
	h.must("boxrun", "exec", "web", "--", "systemctl", "start", "slow.service")
	h.fails(6, []string{"was killed"}, "boxrun", "down", "web")
	time.Sleep(3 * time.Second)
	if got := h.must("boxrun", "ps", "-q"); got != "" {
		t.Errorf("the box was started anew: %s", got)
	}
}

// systemd shuts a box down in order even without boxrun.
func TestStopWithoutBoxrun(t *testing.T) {
	h := withWatched(t)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "exec", "web", "--", "systemctl", "start", "last.service")
	h.sh("mv /usr/local/bin/boxrun /root; systemctl stop boxrun-web; mv /root/boxrun /usr/local/bin")
	h.noted()
	h.must("boxrun", "down", "web")
}

// A person may give a box longer than its profile does, and so than its service has to stop.
func TestDownTakesTheTimeItIsGiven(t *testing.T) {
	h := withWatched(t)
	h.profile("web", watched+"[systemd]\nstop_timeout = \"1s\"\n")
	h.sh("sed -i 's/sleep 2/sleep 40/' /srv/last.service")
	h.must("boxrun", "up", "web")
	h.must("boxrun", "exec", "web", "--", "systemctl", "start", "last.service")
	h.must("boxrun", "down", "-t", "80s", "web")
	h.noted()
}

// down goes on when its boxrun is killed.
func TestAKilledDownIsFinished(t *testing.T) {
	h := withWatched(t)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "exec", "web", "--", "systemctl", "start", "last.service")
	h.killed(time.Second, "down", "web")
	h.awaitUnit("boxrun-web.service", "inactive")
	if got := h.must("boxrun", "ps", "-q"); got != "" {
		t.Errorf("ps -q says %q, want the box to be gone", got)
	}
	h.noted()
}

// Two at once do not take each other for what stays enabled, and what a disable that was killed has left goes with the next.
func TestDisabledAtOnce(t *testing.T) {
	h := newHost(t)
	before := h.must("find", "/etc/systemd")
	const locked = "mkdir -p /run/boxrun/locks; flock -E 77 /run/boxrun/locks/units.lock timeout 1 boxrun "
	none := func(after string) {
		t.Helper()
		if got := h.must("find", "/etc/systemd"); got != before {
			t.Errorf("%s left\n%s\nwant\n%s", after, got, before)
		}
	}
	if r := h.run("bash", "-c", locked+"enable web"); r.Code != 124 {
		t.Errorf("enable while another has the lock: %v, want it to wait", r)
	}
	none("enable that was given up")
	h.must("boxrun", "enable", "web", "hello")
	if r := h.run("bash", "-c", locked+"disable web"); r.Code != 124 {
		t.Errorf("disable while another has the lock: %v, want it to wait", r)
	}
	h.gives("enabled\n", "systemctl", "is-enabled", "boxrun@web.service")
	h.sh("boxrun disable web & boxrun disable hello; wait $!")
	none("disable of both")

	// As of "systemctl edit boxrun@web".
	h.sh("boxrun enable web; printf '[Service]\nNice=3\n' > /etc/systemd/system/boxrun@web.service.d/override.conf; boxrun disable web")
	h.gives("override.conf\n", "ls", "/etc/systemd/system/boxrun@web.service.d")
	if r := h.run("boxrun", "host", "show"); r.Code != 0 || strings.Contains(r.Stdout, "boxrun@web.service.d") {
		t.Errorf("host show: %v, want nothing of a directory with settings of others", r)
	}
	h.sh("rm -r /etc/systemd/system/boxrun@web.service.d")
	h.must("boxrun", "enable", "web")
	h.must("systemctl", "disable", "boxrun@web.service")
	h.must("boxrun", "disable", "hello")
	h.sh("rm -r /etc/systemd/system/boxrun@web.service.d; rmdir --ignore-fail-on-non-empty /etc/systemd/system/*.wants")
	none("the next disable")
}

func TestRestartNoIsHonoured(t *testing.T) {
	h := newHost(t)
	h.profile("web", "image = \"/srv/web\"\n[systemd]\nrestart = \"no\"\n")
	h.must("boxrun", "enable", "web")
	h.must("boxrun", "up", "web")
	h.awaitUnit("boxrun@web.service", "active")
	h.must("kill", "-9", strconv.Itoa(boxes(h)[0].PID))
	h.awaitUnit("boxrun@web.service", "failed")
	time.Sleep(3 * time.Second)
	if got := boxes(h)[0]; got.State != "crashed" {
		t.Errorf("ps says %+v, want it crashed", got)
	}
}

// A box that dies each time it starts is given up at last, and nothing of it is left.
func TestABoxThatNeverStartsIsGivenUp(t *testing.T) {
	h := newHost(t)
	h.sh(hostile)
	h.profile("dead", "image = \"/srv/dead\"\n")
	before := h.dump()
	h.must("boxrun", "enable", "dead")
	h.run("systemctl", "start", "boxrun@dead.service")
	if said := eventually(time.Minute, func() string {
		return strings.TrimPrefix(h.must("systemctl", "show", "-P", "NRestarts", "-P", "SubState", "boxrun@dead.service"), "5\nfailed\n")
	}); said != "" {
		t.Errorf("after a minute the unit says %q, want it to have failed, and no more restarts", said)
	}
	h.must("boxrun", "disable", "dead")
	h.same(before, append(stays(), touched)...)
}

func TestDisableLeavesTheBoxUpAndNoUnits(t *testing.T) {
	h := withWatched(t)
	before := h.must("find", "/etc/systemd")
	h.must("boxrun", "enable", "web", "hello")
	h.must("boxrun", "up", "web")
	h.awaitUnit("boxrun@web.service", "active")
	h.must("boxrun", "up", "hello")
	const pid = "boxrun ps --json | jq '.[] | select(.name == \"hello\").pid'"
	was := h.sh(pid)
	h.run("boxrun", "doctor", "--self-test") // its box is another one of hello's file
	if got := h.sh(pid); got != was {
		t.Errorf("the self-test took hello away: its init was %q, and is %q", was, got)
	}
	h.must("boxrun", "down", "hello")
	h.must("boxrun", "disable", "hello")
	if got := h.must("boxrun", "ps"); !strings.Contains(got, "web   running  yes ") {
		t.Errorf("disabling hello changed web:\n%s", got)
	}
	h.must("boxrun", "disable", "web")
	if after := h.must("find", "/etc/systemd"); after != before {
		t.Errorf("disable left\n%s\nwant\n%s", after, before)
	}
	if got := h.must("boxrun", "ps"); !strings.Contains(got, "web   running  no ") {
		t.Errorf("ps says\n%s\nwant web up", got)
	}
	const kept = "find /run/systemd/system -name 'boxrun@*'"
	if got := h.sh(kept); !containsAll(got, []string{"/boxrun@.service", "/boxrun@web.service.d"}) {
		t.Errorf("for the stop of web are kept %q", got)
	}
	if got := h.must("boxrun", "down", "web", "--dry-run"); !strings.Contains(got, "rm -rf /run/systemd/system/boxrun@web.service.d/profile.conf /run/systemd/system/boxrun@.service\n") {
		t.Errorf("down --dry-run says\n%s\nwant what is kept removed", got)
	}
	h.must("boxrun", "down", "web")
	if got := h.sh(kept); got != "" {
		t.Errorf("after down there is %s", got)
	}
	h.must("boxrun", "enable", "web")
	h.must("boxrun", "up", "web")
	h.awaitUnit("boxrun@web.service", "active")
	h.must("boxrun", "disable", "web")
	h.must("boxrun", "exec", "web", "--", "systemctl", "start", "last.service")
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.noted()
	if got := h.must("boxrun", "ps", "-q"); got != "" {
		t.Errorf("a disabled box is up after a boot: %s", got)
	}
	if r := h.run("boxrun", "disable", "web"); r.Code != 0 || !strings.Contains(r.Stderr, "web: is not enabled") {
		t.Errorf("disable again: %v", r)
	}
}

func TestOnlyProfilesOfTheHostAreEnabled(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.sh("mkdir -p /srv/mine; printf 'image = \"/srv/web\"\\n' | tee /srv/mine/own.toml > /srv/mine/web.toml; echo 'image = \"beside\"' > /srv/mine/two.toml")
	h.fails(2, []string{"/srv/mine/own.toml is not for the whole host",
		"hint: install -D -m 644 /srv/mine/own.toml /etc/boxrun/profiles/own.toml && boxrun enable /etc/boxrun/profiles/own.toml\n"}, "boxrun", "enable", "/srv/mine/own.toml")
	h.fails(2, []string{"hint: install -D -m 644 /srv/mine/two.toml /etc/boxrun/profiles/two.toml, and beside it what it names by relative paths: beside\n"},
		"boxrun", "enable", "/srv/mine/two.toml")
	const ofHost = `the host has /etc/boxrun/profiles/web.toml: "boxrun enable /etc/boxrun/profiles/web.toml"`
	h.fails(2, []string{"/srv/mine/web.toml is not for the whole host", ofHost}, "sh", "-c", "cd /srv/mine; boxrun enable web")
	h.fails(3, []string{"nosuch"}, "boxrun", "enable", "nosuch")
	h.sh("chown alice /etc/boxrun/profiles/web.toml")
	h.fails(2, []string{"/etc/boxrun/profiles/web.toml belongs to user"}, "sh", "-c", "SUDO_UID=$(id -u alice) boxrun enable web")
	h.sh("chown root /etc/boxrun/profiles/web.toml")
	h.same(before)
}

func TestWhatABoxDependsOnComesFirst(t *testing.T) {
	h := newHost(t)
	h.profile("db", "image = \"builtin:hello\"\n[ready]\nhttp = [\"http://:80/\"]\n")
	h.profile("app", "image = \"builtin:hello\"\ndepends_on = [\"db\"]\n")
	r := h.run("boxrun", "up", "app")
	if db, app := strings.Index(r.Stderr, "db: started"), strings.Index(r.Stderr, "app: started"); r.Code != 0 || db < 0 || app < db {
		t.Errorf("up: %v\nwant db started, then app", r)
	}
	h.must("boxrun", "down", "app")
	if got := h.must("boxrun", "ps", "-q"); got != "db\n" {
		t.Errorf("after down of app, ps -q says %q, want db", got)
	}
	h.must("boxrun", "up", "app")
	r = h.run("boxrun", "down", "db", "app")
	if db, app := strings.Index(r.Stderr, "db: is down"), strings.Index(r.Stderr, "app: is down"); r.Code != 0 || app < 0 || db < app {
		t.Errorf("down: %v\nwant app down, then db", r)
	}

	h.profile("db", "image = \"builtin:hello\"\ndepends_on = [\"app\"]\n")
	h.fails(2, []string{"goes in a circle: app needs db needs app"}, "boxrun", "up", "app")
	h.profile("db", "image = \"/srv/nosuch\"\n")
	h.fails(1, []string{"app: not started, as it depends on db"}, "boxrun", "up", "app")
	if got := h.must("boxrun", "ps", "-q"); got != "" {
		t.Errorf("ps -q says %q, want nothing up", got)
	}

	h.profile("db", "image = \"builtin:hello\"\n")
	h.must("boxrun", "enable", "app")
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.must("boxrun", "ps", "-q"); got != "app\ndb\n" {
		t.Errorf("after a boot, ps -q says %q, want app and db", got)
	}
	h.must("systemctl", "stop", "boxrun@app.service")
	if got := h.must("boxrun", "ps", "-q"); got != "db\n" {
		t.Errorf("after systemctl stop boxrun@app, ps -q says %q, want db", got)
	}
}

// A service that is told to stop while its "boxrun up" still runs takes the box down, and has not failed: whether the box
// was up before or not, and whether that boxrun has begun to listen to signals or not.
func TestAServiceStoppedWhileItStarts(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "enable", "web")
	h.stopsWhileStarting("boxrun up web; boxrun restart web")
	for _, pause := range []string{"0.005", "0.01", "0.02", "0.05"} {
		h.stopsWhileStarting("boxrun up web; systemctl stop --no-block boxrun@web; boxrun up web; sleep " + pause)
		h.stopsWhileStarting("systemctl start --no-block boxrun@web; sleep " + pause)
	}
	h.stopsWhileStarting("systemctl start --no-block boxrun@web; sleep 0.5")
}

// A stop of the service holds where systemd has the start of the service in its queue, and has not begun: restart and enable
// return when a stop will take the box down, and a box whose service is stopped before goes down again.
func TestAServiceStoppedBeforeItStarts(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "enable", "web")
	h.sh(`printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "until test -e /run/passed; do sleep 0.05; done"\n' > /etc/systemd/system/first.service
printf '[Unit]\nAfter=first.service\n' > /etc/systemd/system/boxrun@web.service.d/second.conf
systemctl daemon-reload; boxrun up web`)
	const queue = `rm -f /run/passed; systemctl start --no-block first.service
boxrun restart web & up=$!
timeout 60 sh -c 'until systemctl list-jobs --no-legend --plain | grep -q "boxrun@web.service *start *waiting"; do sleep 0.05; done'
kill -0 $up; `
	nothing := func(when string) {
		h.t.Helper()
		if left := h.sh("boxrun ps -q; systemctl list-jobs --no-legend --plain 'boxrun*'; systemctl is-active boxrun@web boxrun-web || true"); left != "inactive\ninactive\n" {
			t.Errorf("%s there is\n%s", when, left)
		}
	}
	h.sh(queue + "systemctl stop boxrun@web; code=0; wait $up || code=$?; touch /run/passed; test $code = 4")
	nothing("after a stop of what waited for its start")
	h.sh("boxrun up web; " + queue + "touch /run/passed; wait $up; systemctl stop boxrun@web")
	nothing("after a restart and a stop")
}

// stopsWhileStarting wants nothing of the box left after start and a stop of its service.
func (h host) stopsWhileStarting(start string) {
	h.t.Helper()
	h.sh(start + "; timeout 20 systemctl stop boxrun@web")
	left := h.sh("boxrun ps -q; systemctl --failed --no-legend --plain; systemctl is-active boxrun@web boxrun-web || true")
	if left != "inactive\ninactive\n" {
		h.t.Errorf("after %s and systemctl stop boxrun@web there is\n%s\nits journal:\n%s", start, left,
			h.sh("journalctl -q -o cat -u boxrun@web | tail -n 20; boxrun down web"))
	}
}

// heals wants the page, and the box's way out, soon after a command that takes the rules away: two seconds are promised.
func (h host) heals(command string) {
	h.t.Helper()
	h.page()
	h.sh(command)
	done := time.Now()
	said := eventually(promised(2*time.Second), func() string {
		r, err := h.Client(h.t.Context(), "curl", "-sSf", "-o", "/dev/null", "-m", "0.3", webURL)
		if err != nil {
			h.t.Fatal(err)
		}
		if r.Code == 0 {
			r = h.run("boxrun", "exec", "web", "--", "ping", "-q", "-c", "1", "-W", "0.3", testhost.ClientAddr)
		}
		if r.Code != 0 {
			return r.String()
		}
		return ""
	})
	took := time.Since(done).Round(time.Millisecond)
	if said != "" || took > 3*promised(2*time.Second) { // one try may hang, and then succeed
		h.t.Errorf("%v after %q: %s", took, command, said)
	}
	h.t.Logf("%s: all was well %v after it", command, took)
}

func TestPortsHealWhenNftablesFlushes(t *testing.T) {
	h := newHost(t)
	h.sh(nftConf("policy accept"))
	h.must("boxrun", "up", "web")
	h.must("nft", "flush", "ruleset")
	if got := h.must("boxrun", "repair"); got != "" {
		t.Errorf("repair says %q on stdout", got)
	}
	h.page()
	if r := h.run("boxrun", "repair"); r.Code != 0 || !strings.Contains(r.Stderr, "all rules are in place") {
		t.Errorf("repair of what is in place: %v", r)
	}
	if r := h.run("boxrun", "repair", "--quiet"); r.Code != 0 || r.Stderr != "" {
		t.Errorf("quiet repair of what is in place: %v", r)
	}
	h.must("boxrun", "enable", "web")
	for range 7 { // more often than systemd lets a service start by default
		h.heals("systemctl reset-failed nftables; systemctl restart nftables")
	}
	h.heals("systemctl reload nftables")
	h.heals("systemctl reset-failed nftables; systemctl stop nftables; systemctl start nftables")
	// As Red Hat's service of that name does, with rules that were saved before there was a box.
	h.sh(`systemctl stop nftables; boxrun repair; printf '*%s\nCOMMIT\n' raw mangle nat filter > /etc/iptables.rules; cat > /etc/systemd/system/iptables.service << 'UNIT'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/iptables-restore /etc/iptables.rules
ExecReload=/usr/sbin/iptables-restore /etc/iptables.rules
UNIT
systemctl daemon-reload`)
	h.heals("systemctl start iptables")
	h.heals("systemctl restart iptables")
	h.heals("systemctl reload iptables")
}

func TestPortsHealBesideNeighbours(t *testing.T) {
	h := bootHost(t, testhost.NewWithNeighbours)
	h.listed("Debian 13")
	h.must("boxrun", "up", "web")
	h.must("boxrun", "enable", "web")
	for _, backend := range []string{"nftables", "iptables"} { // only with the latter a reload of firewalld 2 takes boxrun's rules away
		t.Run("firewalld on "+backend, func(t *testing.T) {
			h := h.in(t)
			h.sh("sed -i s/^FirewallBackend=.*/FirewallBackend=" + backend + "/ /etc/firewalld/firewalld.conf")
			h.heals("systemctl reset-failed firewalld 2> /dev/null || true; systemctl start firewalld")
			h.awaitUnit("boxrun-watch@host.service", "active")
			h.heals("firewall-cmd -q --reload")
			h.heals("firewall-cmd -q --complete-reload")
			h.heals("firewall-cmd -q --direct --add-rule ipv4 filter INPUT 0 -p tcp --dport 9 -j ACCEPT") // 2.3 flushes before the first
			h.heals("systemctl restart firewalld")
			h.heals("systemctl reset-failed firewalld docker 2> /dev/null || true; systemctl restart firewalld docker")
			h.awaitUnit("boxrun-watch@host.service", "active")
			h.healsThrough("systemctl reload firewalld") // which returns before firewalld has begun
			h.watchIsSmall()
			h.must("systemctl", "stop", "firewalld", "docker", "docker.socket")
			h.must("boxrun", "repair")
		})
	}
	t.Run("Docker", func(t *testing.T) {
		h := h.in(t)
		h.heals("systemctl reset-failed docker 2> /dev/null || true; systemctl start docker")
		h.heals("systemctl restart docker")
	})
}

// watchPID, in a shell of a host, is the process of the watch.
const watchPID = "$(systemctl show -P MainPID boxrun-watch@host)"

// An enabled box heals by itself, whoever takes away what, and however: no service of systemd's tells of it. Until the watch
// has looked, status names the fault: the watch sleeps meanwhile. A change of boxrun is tried on the host of most tests.
func TestEnabledBoxesHeal(t *testing.T) {
	if !soak() {
		newHost(t).healsFromDrifts(portFlags)
		return
	}
	sideBySide(t)
	for _, r := range releases() {
		for _, m := range managersOfHosts() {
			t.Run(r.name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				h := bootHost(t, r.boot)
				if m.setup != nil {
					m.setup(h)
				}
				h.healsFromDrifts(append(slices.Clone(r.has), m.has)...)
			})
		}
	}
}

// awaitedDrifts are the drifts that the watch hears of, on a host that has some of what they need.
func awaitedDrifts(has ...string) []drift {
	all := slices.Concat(drifts(), []drift{
		{name: "name servers", script: "echo nameserver 192.0.2.77 > /etc/resolv.conf", word: "name servers"},
		{name: "name servers by rename", script: "echo nameserver 192.0.2.78 > /etc/new; mv /etc/new /etc/resolv.conf", word: "name servers"},
		{name: "nftables flushed", script: "nft flush ruleset", word: "BOXRUN-DNAT"},
		{name: "strict reverse paths", script: "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1", word: "rp_filter"},
		{name: "127.0.0.1 kept from boxes", script: "sysctl -qw net.ipv4.conf.sbr0.route_localnet=0", word: "route_localnet"},
		{name: "router advertisements taken", script: "sysctl -qw net.ipv6.conf.sbr0.accept_ra=1", word: "accept_ra"},
		{name: "IPv6 does not forward", script: "sysctl -qw net.ipv6.conf.all.forwarding=0", word: "net.ipv6.conf"},
	})
	all = append(slices.Concat(all, takenApart()),
		drift{name: "the rule of answers deleted", script: "ip rule del pref 32764", word: "the routing rule is missing", needs: someUplinks},
		drift{name: "firewalld reloaded", script: "systemctl start firewalld; firewall-cmd -q --state; boxrun repair; firewall-cmd -q --reload", needs: someFirewalld})
	return slices.DeleteFunc(all, func(d drift) bool {
		return d.needs != "" && !slices.Contains(has, d.needs) ||
			d.name == "another address inside" // a change of the box's own, of which the host hears nothing
	})
}

// healsFromDrifts enables a box, and wants the box to heal from each drift of a host that has some of what drifts need.
func (h host) healsFromDrifts(has ...string) {
	h.t.Helper()
	h.sh("sed -i '/^\\[network\\]/a offload = \"off\"' /etc/boxrun/profiles/web.toml; " + quickLooks)
	h.must("boxrun", "enable", "web")
	h.must("boxrun", "up", "web")
	h.awaitUnit("boxrun-watch@host.service", "active")
	for _, d := range awaitedDrifts(has...) {
		h.t.Run(d.name, func(t *testing.T) { h.in(t).healsFrom(d) })
	}
	h.watchIsSmall()
}

// healsFrom wants status to name a drift, and an enabled box to heal from that soon after the watch may look.
func (h host) healsFrom(d drift) {
	h.t.Helper()
	h.isIdle()
	h.sh("kill -STOP " + watchPID)
	defer h.run("sh", "-c", "kill -CONT "+watchPID) // a script that fails ends the test
	h.sh(d.script)
	said := h.must("boxrun", "status", "web")
	h.sh("kill -CONT " + watchPID)
	if !containsAll(said, []string{"drifted", d.word}) {
		h.t.Errorf("before the watch has looked, status says\n%s\nwant that %s drifted", said, d.word)
	}
	done := time.Now()
	if said := eventually(promised(2*time.Second), func() string {
		if got := h.must("boxrun", "status", "web"); strings.Contains(got, "drifted") {
			return got
		}
		return ""
	}); said != "" {
		h.t.Errorf("long after %q status says\n%s", d.script, said)
	}
	h.t.Logf("healed after %v", time.Since(done).Round(time.Millisecond))
	h.page()
}

// What nobody mends wakes the watch as well, which logs that once.
func TestTheWatchTellsOfWhatItCannotMend(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "enable", "web")
	h.must("boxrun", "up", "web")
	h.awaitUnit("boxrun-watch@host.service", "active")
	const log = "journalctl -q -o cat -u boxrun-watch@host | grep -F "
	for _, c := range []struct{ name, script, undo, log string }{
		{"a policy of IPsec", "ip xfrm policy add src 0.0.0.0/0 dst 10.22.0.0/24 dir fwd action block", "ip xfrm policy flush",
			"web: still drifted: a policy of IPsec blocks packets of 10.22.0.2"},
		{"a rule of iptables", "iptables -t raw -A PREROUTING -i eth0 -j CT --notrack", "iptables -t raw -D PREROUTING -i eth0 -j CT --notrack",
			"web: still drifted: connections to port 80/tcp are not translated"},
		{"a chain of nftables", "nft 'add table ip site; add chain ip site c { type filter hook forward priority 9; policy drop; }'", "nft delete table ip site",
			"web: still drifted: what clients send to port 80/tcp is dropped by nft chain ip site c"},
		{"a rule of nftables", "nft 'add table inet site; add chain inet site c { type filter hook forward priority 9; }'; boxrun repair; nft add rule inet site c drop", "nft delete table inet site",
			"web: still drifted: what clients send to port 80/tcp is dropped by nft rule inet site c drop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.isIdle()
			h.sh(c.script)
			if said := eventually(20*time.Second, func() string { return h.sh(log + "'" + c.log + "' > /dev/null || echo nothing") }); said != "" {
				t.Errorf("the journal of the watch has nothing of %q:\n%s", c.log, h.sh("journalctl -q -o cat -u boxrun-watch@host"))
			}
			h.isIdle()
			h.sh("iptables -t nat -F BOXRUN-DN-web") // what the watch mends beside that
			h.isIdle()
			if got := h.sh(log + "-c '" + c.log + "'"); got != "1\n" {
				t.Errorf("the watch told %s times", got)
			}
			if said := h.run("boxrun", "repair", "--quiet").Stderr; !strings.Contains(said, c.log) {
				t.Errorf("quiet repair says %q, want %q", said, c.log)
			}
			h.sh(c.undo)
		})
	}
	if got := h.sh("journalctl -q -o cat -u boxrun-watch@host"); strings.Contains(got, "all rules are in place") {
		t.Errorf("the watch logs that nothing is to do:\n%s", got)
	}
}

// isIdle waits until the watch sleeps, and wants it to sleep on while nothing changes.
func (h host) isIdle() {
	h.t.Helper()
	const switches = "grep -h ^voluntary /proc/" + watchPID + "/task/*/status"
	last := ""
	if said := eventually(20*time.Second, func() string {
		before := last
		last = h.sh("sleep 0.5; " + switches)
		if before != last {
			return before + "\nthen\n" + last
		}
		return ""
	}); said != "" {
		h.t.Errorf("the watch wakes up all the time:\n%s", said)
	}
}

// While nothing happens the watch sleeps: over a whole minute none of its threads is switched to, but the one that Go's runtime
// wakes once a minute (sysmon in package runtime), and the minute takes no time of a processor. What a start has left to the host
// to do may take a minute before.
func TestTheWatchIsIdleForAMinute(t *testing.T) {
	if !soak() {
		t.Skip("a minute of waiting, in a soak")
	}
	h := newHost(t)
	h.must("boxrun", "enable", "web")
	h.must("boxrun", "up", "web")
	h.awaitUnit("boxrun-watch@host.service", "active")
	h.page()
	h.isIdle()
	if said := eventually(150*time.Second, h.wakesInAMinute); said != "" {
		t.Error(said)
	}
	h.page()
}

// wakesInAMinute returns what the watch did in a minute, beside what Go's runtime does; "" for nothing.
func (h host) wakesInAMinute() string {
	h.t.Helper()
	const count = `for t in /proc/` + watchPID + `/task/*; do echo $(basename $t) $(awk '/ctxt_switches/ { sum += $2 } END { print sum }' $t/status); done`
	const used = "cut -d ' ' -f 14,15 /proc/" + watchPID + "/stat"
	before, ticks := h.sh(count), h.sh(used)
	h.sh("sleep 60")
	after, woken := h.sh(count), 0
	for line := range strings.Lines(after) {
		if !strings.Contains(before, line) {
			woken++
		}
	}
	if now := h.sh(used); woken > 1 || now != ticks {
		return fmt.Sprintf("threads of the watch and their switches:\n%sa minute later\n%swant those of one thread to differ at most; ticks of a processor: %sthen %s",
			before, after, ticks, now)
	}
	h.t.Logf("in a minute %d thread was woken:\n%sthen\n%s", woken, before, after)
	return ""
}

// watchIsSmall wants what is resident of boxrun's to take less than 15 MB.
func (h host) watchIsSmall() {
	h.t.Helper()
	resident := h.sh("grep VmRSS /proc/" + watchPID + "/status | tr -dc 0-9")
	kilobytes, err := strconv.Atoi(resident)
	if err != nil || kilobytes > 15*1000 {
		h.t.Errorf("the watch takes %s kB, want less than 15 MB", resident)
	}
	h.t.Logf("the watch takes %s kB", resident)
}

// Where systemd cannot be asked a box starts all the same, and says what it lacks.
func TestWithoutSystemdsSocket(t *testing.T) {
	h := newHost(t)
	h.sh("mv /run/systemd/private /run/systemd/private.away")
	r := h.run("boxrun", "up", "web")
	if r.Code != 0 || !strings.Contains(r.Stderr, "web: warning: it will end with this session: connecting to the host's systemd") {
		t.Errorf("up: %v", r)
	}
	h.page()
	h.must("boxrun", "down", "web")
}
