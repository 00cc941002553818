package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/page"
)

// looked is a box that is looked at every second, with a mail on failure that is a line in a file.
const looked = `image = "/srv/web"
[network]
ports = ["80"]
[ready]
units = ["nginx.service"]
[health]
interval = "1s"
timeout = "2s"
on_failure = "tell@.service"
`

// tell is the unit of the host that is started on a failure: it notes the name of the box.
const tell = `mkdir -p /etc/systemd/system; printf '[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/bin/sh -c "echo %%i >> /srv/told"\n' > /etc/systemd/system/tell@.service
systemctl daemon-reload`

// isWell wants status --check to end with code and a line, within the time.
func (h host) isWell(within time.Duration, code int, line string) {
	h.t.Helper()
	if said := eventually(within, func() string {
		if r := h.run("boxrun", "status", "--check", "web"); r.Code != code || !strings.HasPrefix(r.Stdout, line) || strings.Count(r.Stdout, "\n") != 1 {
			return r.String()
		}
		return ""
	}); said != "" {
		h.t.Errorf("status --check: %s\nwant exit code %d and %q", said, code, line)
	}
}

// shows wants ps to have a word for the box, within the time.
func (h host) shows(within time.Duration, word string) {
	h.t.Helper()
	if said := eventually(within, func() string {
		got := h.must("boxrun", "ps", "web")
		if fields := strings.Fields(got[strings.Index(got, "\n")+1:]); len(fields) < 2 || fields[1] != word {
			return got
		}
		return ""
	}); said != "" {
		h.t.Errorf("ps says\n%s\nwant web %s", said, word)
	}
}

// mailed wants the unit of on_failure to have been started so often by now.
func (h host) mailed(times int) {
	h.t.Helper()
	if said := eventually(20*time.Second, func() string {
		if got := h.sh("cat /srv/told 2> /dev/null || true"); got != strings.Repeat("web\n", times) {
			return fmt.Sprintf("%q", got)
		}
		return ""
	}); said != "" {
		h.t.Errorf("on_failure noted %s, want the box %d times", said, times)
	}
}

// mailedAnew wants the unit of on_failure to have been started since the last call, for the box. On a slow machine a look
// may find what systemd tells of as well.
func (h host) mailedAnew() {
	h.t.Helper()
	if said := eventually(20*time.Second, func() string { return h.sh("grep -qx web /srv/told || echo nothing") }); said != "" {
		h.t.Errorf("on_failure was told %s", said)
	}
	h.sh("rm -f /srv/told")
}

// The host's systemd looks at a box, and says once what changed. Nothing of boxrun runs between two looks, and nothing is
// left after down.
func TestABoxIsLookedAt(t *testing.T) {
	h := newHost(t)
	h.sh(tell)
	h.profile("web", looked)
	before := h.dump()
	h.isWell(0, 3, "web: down\n")
	const locked = "mkdir -p /run/boxrun/locks; flock -E 77 /run/boxrun/locks/box-web.lock boxrun status --check web"
	if r := h.run("bash", "-c", locked); r.Code != 13 || r.Stdout != "web: busy\n" {
		t.Errorf("status --check between a stop and a start: %v, want the box busy", r)
	}
	h.must("boxrun", "up", "web")
	h.shows(0, "healthy")
	h.isWell(0, 0, "web: healthy\n")
	h.must("boxrun", "exec", "web", "--", "systemctl", "stop", "nginx")
	h.isWell(0, 10, "web: unhealthy: unit nginx.service is inactive (dead)\n")
	h.shows(promised(2500*time.Millisecond), "unhealthy")
	h.mailed(1)
	h.must("boxrun", "exec", "web", "--", "systemctl", "start", "nginx")
	h.shows(promised(2500*time.Millisecond), "healthy")
	time.Sleep(2 * time.Second)
	h.mailed(1)
	got := h.must("journalctl", "-q", "-o", "cat", "-u", "boxrun-health@web.service")
	got = strings.Replace(got, "deactivating (stop)", "inactive (dead)", 1) // a look may come while nginx stops
	if want := "boxrun: web: is unhealthy: unit nginx.service is inactive (dead)\nboxrun: web: is healthy\n"; got != want {
		t.Errorf("the journal has\n%s\nwant\n%s", got, want)
	}
	h.nothingRuns()
	h.looksFromOutside()
	h.looksAtOnce()
	h.looksThatHang()
	h.crashesOnce()
	h.sh("boxrun down web; rm /srv/told")
	if got := h.must("systemctl", "list-units", "--all", "--no-legend", "boxrun*"); got != "" {
		t.Errorf("down left units: %s", got)
	}
	h.same(before, stays()...)
}

// nothingRuns wants no process of boxrun between two looks. With BOXRUN_SOAK=1 it wants looks by hand to take the promised time.
func (h host) nothingRuns() {
	h.t.Helper()
	if said := eventually(20*time.Second, func() string { return h.run("pgrep", "-a", "-x", "boxrun").Stdout }); said != "" {
		h.t.Errorf("of boxrun there runs\n%s", said)
	}
	if !soak() {
		return
	}
	for line, most := range map[string]float64{"boxrun status --check web": 0.03, "boxrun doctor": 0.6} {
		quickest := h.sh("TIMEFORMAT=%R; for i in $(seq 20); do { time " + line + " > /dev/null 2>&1; } 2>&1; done | sort -n | head -n 1 | tr -d '\n'")
		took, err := strconv.ParseFloat(quickest, 64)
		h.t.Logf("%s took %v s", line, took)
		if err != nil || took > most {
			h.t.Errorf("%s took %q s at best, want at most %v: %v", line, quickest, most, err)
		}
	}
}

// looksFromOutside asks as nobody, who may not enter the box, and while others work on the box.
func (h host) looksFromOutside() {
	h.t.Helper()
	r := h.run("runuser", "-u", "nobody", "--", "boxrun", "status", "--check", "web")
	if r.Code != 0 || r.Stdout != "web: healthy\n" {
		h.t.Errorf("status --check by nobody: %v", r)
	}
	h.must("iptables", "-t", "nat", "-F", "BOXRUN-DN-web")
	h.isWell(0, 12, "web: drifted: ")
	h.must("boxrun", "repair")
	h.isWell(0, 0, "web: healthy\n")
}

// looksAtOnce looks, and brings the box up, many times at once: all of them end well, and the box is as it was.
func (h host) looksAtOnce() {
	h.t.Helper()
	h.sh(`for i in $(seq 8); do boxrun health web & boxrun status --check web > /dev/null & done; boxrun up web; for job in $(jobs -p); do wait $job; done
systemctl daemon-reload`)
	h.isWell(0, 0, "web: healthy\n")
	h.must("systemctl", "is-active", "boxrun-health@web.timer")
}

// looksThatHang has the systemd of the box answer nobody. Looks end all the same, one that is killed is followed by the
// next, and a down waits for none.
func (h host) looksThatHang() {
	h.t.Helper()
	h.must("kill", "-STOP", fmt.Sprint(boxes(h)[0].PID))
	h.shows(promised(6*time.Second), "unhealthy")
	h.sh("timeout 20 sh -c 'until pkill -9 -f \"^[^ ]*boxrun health web\"; do sleep 0.1; done'")
	h.isWell(0, 10, "web: unhealthy: ") // systemd does not answer, or on a loaded machine the look hung
	h.must("kill", "-CONT", fmt.Sprint(boxes(h)[0].PID))
	h.shows(promised(6*time.Second), "healthy")
	h.mailed(2)
	h.must("kill", "-STOP", fmt.Sprint(boxes(h)[0].PID))
	h.sh("timeout 20 sh -c 'until pgrep -f \"^[^ ]*boxrun health web\"; do sleep 0.05; done'")
	began := time.Now()
	h.must("boxrun", "down", "--timeout", "0", "web")
	if took := time.Since(began); took > 3*time.Second {
		h.t.Errorf("down in the middle of a look took %v", took)
	}
	h.must("boxrun", "up", "web")
}

// Where somebody has stopped the looks at a box, all verbs say so, and what brings the looks back; those that look at the box
// themselves say how the box is.
func TestLooksThatStop(t *testing.T) {
	h := newHost(t)
	h.profile("web", strings.Replace(looked, "on_failure = \"tell@.service\"\n", "", 1))
	h.must("boxrun", "up", "web")
	const timer, stop = "boxrun-health@web.timer", "systemctl stop boxrun-health@web.timer; "
	h.tells([]string{"mended: web: " + timer + " was not active"}, "bash", "-c", stop+"boxrun repair 2>&1")
	h.awaitUnit(timer, "active")
	h.tells([]string{"web: mended: " + timer + " was not active"}, "bash", "-c", stop+"boxrun up web 2>&1")
	h.awaitUnit(timer, "active")
	h.sh(stop)
	h.shows(time.Minute, "drifted")
	v := h.views("web")
	for _, line := range v.contradictions() {
		t.Error(line)
	}
	const since, remedy = "nobody has looked at it since ", `: "boxrun repair" has it looked at again`
	if len(v.Status.Drift) != 1 || !containsAll(v.Status.Drift[0], []string{since, remedy}) || !strings.Contains(v.PsText, remedy) || v.Status.Health.Word != "drifted" {
		t.Errorf("ps says\n%s\nstatus says\n%s", v.PsText, v.StatusText)
	}
	r := h.run("runuser", "-u", "nobody", "--", "boxrun", "status", "--check", "web")
	if r.Code != 10 || !containsAll(r.Stdout, []string{"web: unhealthy: " + since, remedy}) {
		t.Errorf("status --check by nobody: %v", r)
	}
	h.must("boxrun", "exec", "web", "--", "systemctl", "stop", "nginx")
	if v = h.views("web"); v.Status.Health.Word != "unhealthy" || len(v.contradictions()) > 0 {
		t.Errorf("of an unhealthy box at which nobody looks: %q\n%s%s", v.contradictions(), v.PsText, v.StatusText)
	}
	h.must("boxrun", "exec", "web", "--", "systemctl", "start", "nginx")

	h.must("systemctl", "mask", "--runtime", timer)
	if r := h.run("boxrun", "repair"); r.Code != 1 || !strings.Contains(r.Stderr, "web: "+timer+` is masked: "systemctl unmask --runtime `+timer+`" takes that back`) {
		t.Errorf("repair: %v", r)
	}
	h.must("systemctl", "unmask", "--runtime", timer)
	h.tells([]string{"mended: web: " + since}, "bash", "-c", "boxrun repair 2>&1")
	h.awaitUnit(timer, "active")
	h.shows(0, "healthy")
	h.isWell(0, 0, "web: healthy\n")
}

// crashesOnce kills the init of the box: the unit of the host is started, though the box is not enabled.
func (h host) crashesOnce() {
	h.t.Helper()
	h.must("kill", "-9", fmt.Sprint(boxes(h)[0].PID))
	h.isWell(20*time.Second, 11, "web: crashed\n")
	h.mailed(3)
}

// The unit of on_failure may take its time, and may bring the box up itself: nothing of the dead box is in the way of a start.
func TestAFailureUnitStandsInNobodysWay(t *testing.T) {
	h := newHost(t)
	unit := func(does string) {
		h.sh("printf '[Service]\\nType=oneshot\\nExecStart=" + does + "\\n' > /etc/systemd/system/act@.service; systemctl daemon-reload")
	}
	crash := func() { h.must("kill", "-9", fmt.Sprint(boxes(h)[0].PID)) }
	unit("/bin/sleep infinity")
	h.profile("web", "image = \"/srv/web\"\nhealth.on_failure = \"act@.service\"\n")
	h.must("boxrun", "up", "web")
	crash()
	h.awaitUnit("act@web.service", "activating")
	h.awaitUnit("boxrun-web.service", "inactive")
	if r := h.run("boxrun", "up", "web"); r.Code != 0 || strings.Contains(r.Stderr, "warning") {
		t.Errorf("up while the unit of on_failure runs: %v", r)
	}
	h.must("systemctl", "is-active", "boxrun-web.service")
	h.sh("boxrun down web; systemctl stop act@web; systemctl reset-failed")
	if got := h.must("systemctl", "list-units", "--all", "--no-legend", "boxrun*"); got != "" {
		t.Errorf("down left units: %s", got)
	}

	unit("/usr/local/bin/boxrun up %%i")
	h.must("boxrun", "up", "web")
	was := boxes(h)[0].PID
	crash()
	if said := eventually(time.Minute, func() string {
		if list := boxes(h); len(list) == 1 && list[0].State == "running" && list[0].PID != was {
			return ""
		}
		return h.must("boxrun", "ps") + "."
	}); said != "" {
		t.Errorf("ps says\n%s\nwant the box brought up by the unit of on_failure", said)
	}
	h.awaitUnit("boxrun-web.service", "active")
	h.must("boxrun", "down", "web")
}

// flagged is a box that answers well while there is a file of the host.
const flagged = `image = "/srv/web"
[storage]
binds = ["/srv/www:/var/www/html:ro"]
[ready]
timeout = "2s"
http = ["http://:80/flag"]
[health]
interval = "1s"
action = "restart"
on_failure = "tell@.service"
`

// An unhealthy box is started anew, by somebody who ends with that, and no more than five times in ten minutes.
func TestAnUnhealthyBoxIsRestarted(t *testing.T) {
	h := newHost(t)
	h.sh(tell + "\nmkdir -p /srv/www; touch /srv/www/flag")
	h.profile("web", flagged)
	before := h.dump()
	h.must("boxrun", "up", "--wait-timeout", "60s", "web")
	was := boxes(h)[0].PID
	h.must("boxrun", "exec", "web", "--", "systemctl", "stop", "nginx")
	h.restarted(1, "healthy")
	if now := boxes(h)[0].PID; now == was {
		t.Errorf("the box's init is %d as before", now)
	}
	h.sh("grep -qx web /srv/told")
	if soak() { // what bounds restarts has a test of its own, in launcher/health
		h.givesUp()
	}
	h.must("boxrun", "exec", "web", "--", "systemctl", "stop", "nginx")
	h.sh("sleep 1.2; boxrun down web; sleep 1") // a down in the middle of a look, or of a restart
	h.isWell(0, 3, "web: down\n")
	h.sh("rm -rf /srv/told; touch /srv/www/flag")
	h.same(before, append(stays(), `^/srv`)...)
}

// givesUp has a box that no start makes well.
func (h host) givesUp() {
	h.t.Helper()
	h.sh("rm /srv/www/flag")
	h.restarted(5, "unhealthy")
	time.Sleep(2500 * time.Millisecond)
	h.restarted(5, "unhealthy")
	if got := h.must("journalctl", "-q", "-o", "cat", "-t", "boxrun", "-g", "is left as it is"); strings.Count(got, "\n") != 1 {
		h.t.Errorf("the journal has\n%s\nwant that it gave up, once", got)
	}
	h.sh("touch /srv/www/flag")
	h.shows(promised(2500*time.Millisecond), "healthy")
}

// restarted wants the box to have been started anew so often, or more often on a slow machine while it is well, and to be in
// a state, soon.
func (h host) restarted(times int, word string) {
	h.t.Helper()
	if said := eventually(60*time.Second, func() string {
		list := boxes(h)
		if len(list) == 1 && list[0].Health.Word == word &&
			(list[0].Restarts == times || list[0].Restarts > times && word == "healthy") {
			return ""
		}
		return fmt.Sprintf("%+v", list)
	}); said != "" {
		h.t.Errorf("the box is %s\nwant it %s, and restarted %d times\n%s", said, word, times,
			h.sh("journalctl -q -o short-precise -n 80"))
	}
}

// An enabled box is looked at after each of its starts: by a boot after a power cut, by systemd when it died, and as it is
// unhealthy. What the host's systemd does to itself ends no looks.
func TestLooksComeWithTheBox(t *testing.T) {
	h := newHost(t)
	h.sh(tell + "\nmkdir -p /srv/www; touch /srv/www/flag")
	h.profile("web", strings.Replace(flagged, "timeout = \"2s\"\n", "", 1))
	h.must("boxrun", "enable", "web")
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.awaitUnit("boxrun@web.service", "active")
	h.awaitUnit("boxrun-health@web.timer", "active")
	h.isWell(0, 0, "web: healthy\n")
	h.must("systemctl", "daemon-reexec")
	h.must("boxrun", "exec", "web", "--", "systemctl", "stop", "nginx")
	h.restarted(1, "healthy")
	h.awaitUnit("boxrun@web.service", "active")
	h.mailedAnew()
	h.must("kill", "-9", fmt.Sprint(boxes(h)[0].PID))
	h.restarted(2, "healthy")
	h.awaitUnit("boxrun-health@web.timer", "active")
	h.mailedAnew()
	h.must("boxrun", "down", "web")
	if got := h.must("systemctl", "list-units", "--all", "--no-legend", "boxrun-*web*"); got != "" {
		t.Errorf("down left units: %s", got)
	}

	// A start at boot that fails for good is told as well.
	h.profile("web", flagged+"[systemd]\nrestart = \"no\"\n")
	h.must("boxrun", "enable", "web")
	h.sh("rm -r /srv/www; ! systemctl start boxrun@web")
	h.mailedAnew()
}

// mails writes the unit of docs/health.md to the host. What it mails is in /srv/mails, a file each.
func (h host) mails() {
	h.t.Helper()
	unit := h.blockOf("health.md", "# /etc/systemd/system/mail-root@.service")
	const mail = "#!/bin/sh\nmkdir -p /srv/mails\nfile=/srv/mails/$(date +%s%N)\n{ echo \"To $3: $2\"; cat; } > $file.new\nmv $file.new $file\n"
	for path, text := range map[string]string{
		"/etc/systemd/system/mail-root@.service": unit, "/usr/local/bin/mail": mail,
	} {
		if err := h.Write(h.t.Context(), path, 0o755, strings.NewReader(text)); err != nil {
			h.t.Fatal(err)
		}
	}
	h.must("systemctl", "daemon-reload")
}

// blockOf returns the block of a page that begins with a line.
func (h host) blockOf(name, first string) string {
	h.t.Helper()
	blocks, err := page.Blocks("../docs/" + name)
	i := slices.IndexFunc(blocks, func(b page.Block) bool { return strings.HasPrefix(b.Lines[0], first) })
	if err != nil || i < 0 {
		h.t.Fatalf("%s has no block that begins with %q: %v", name, first, err)
	}
	return strings.Join(blocks[i].Lines, "\n") + "\n"
}

// received wants so many mails to have come within some seconds, and gives the last.
func (h host) received(times int) string {
	h.t.Helper()
	if said := eventually(20*time.Second, func() string {
		if got := h.sh("ls /srv/mails 2> /dev/null | grep -vc new || true"); got != fmt.Sprintln(times) {
			return got
		}
		return ""
	}); said != "" {
		h.t.Fatalf("%s mails have come, want %d: the last says\n%s", said, times, h.sh("cat /srv/mails/$(ls /srv/mails | tail -n 1)"))
	}
	return h.sh("cat /srv/mails/$(ls /srv/mails | tail -n 1)")
}

// A box that crashes again and again is mailed at each crash, and once more when systemd gives up; then nobody hears of it
// until somebody brings it up.
func TestACrashLoopIsMailed(t *testing.T) {
	h := newHost(t)
	h.mails()
	h.profile("web", "image = \"/srv/web\"\n[health]\non_failure = \"mail-root@.service\"\n")
	h.must("boxrun", "enable", "web")
	h.must("systemctl", "start", "boxrun@web")
	const starts = 5 // in ten minutes
	crash := func() {
		t.Helper()
		h.awaitUnit("boxrun@web.service", "active")
		h.must("boxrun", "exec", "web", "--", "sh", "-c", "echo last words | systemd-cat; journalctl --sync")
		h.must("kill", "-9", fmt.Sprint(boxes(h)[0].PID))
	}
	for n := 1; n < starts; n++ {
		crash()
		mail := h.received(n)
		if !containsAll(mail, []string{"To root: box web of host\n", "crashed\n", "code=killed, status=9/KILL\n", "last words\n"}) {
			t.Errorf("the mail says\n%s\nwant the box, what ended it, and its last words", mail)
		}
	}
	crash()
	last := h.received(starts + 1)
	if !containsAll(last, []string{
		"To root: box web of host\n", "crashed, and systemd starts it no more: \"boxrun up\" does\n",
		"boxrun@web.service: Start request repeated too quickly.\n", "Failed to start boxrun@web.service - box web of boxrun.\n", "last words\n",
	}) {
		t.Errorf("the last mail says\n%s\nwant the box, and that systemd has given up", last)
	}
	h.awaitUnit("boxrun@web.service", "failed")
	h.must("systemctl", "daemon-reload")
	h.must("boxrun", "repair")
	h.received(starts + 1)
	h.must("boxrun", "up", "web")
	if got := h.must("boxrun", "status", "--json", "web"); !strings.Contains(got, `"given_up": false`) {
		t.Errorf("brought up by hand, the box is\n%s", got)
	}
	h.must("boxrun", "down", "web")
	h.received(starts + 1)
}

// A job of a timer that fails, once the box is told to, and a service that is not enabled: another, which is, wants that.
const jobAndChild = `cp -a /srv/web /srv/jobs; cd /srv/jobs/etc/systemd/system
printf '[Service]\nType=oneshot\nExecCondition=/usr/bin/test -e /run/fail\nExecStart=/bin/false\n' > job.service
printf '[Timer]\nOnActiveSec=0\nOnUnitInactiveSec=1\nAccuracySec=1ms\n' > job.timer
printf '[Unit]\nWants=child@1.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n' > parent.service
printf '[Service]\nExecStart=/bin/sleep infinity\n' > child@.service
ln -s ../job.timer ../parent.service multi-user.target.wants/`

// What fails after the start, and is started anew by nobody, is seen in a box at which nobody looks, where a process has ended:
// by ps. A job that fails leaves no process to miss: status tells of that, and ps where there are looks.
func TestServicesThatFailLaterAreSeen(t *testing.T) {
	h := newHost(t)
	h.sh(jobAndChild)
	h.profile("plain", "image = \"/srv/jobs\"\n")
	h.profile("ready", "image = \"/srv/jobs\"\nready.units = [\"child@1.service\"]\n")
	h.profile("watched", "image = \"/srv/jobs\"\nhealth.interval = \"1s\"\n")
	h.must("boxrun", "up", "plain", "ready", "watched")
	h.is("plain", "running", "")
	h.is("watched", "healthy", "")
	h.sh("for box in plain ready watched; do boxrun exec $box -- touch /run/fail; done")
	h.is("watched", "degraded", "failed: job.service")
	if said := eventually(20*time.Second, func() string {
		return strings.TrimPrefix(h.must("boxrun", "status", "--check", "plain"), "plain: degraded: failed: job.service\n")
	}); said != "" {
		t.Errorf("status --check says %s", said)
	}
	h.is("plain", "running", "")
	h.sh("for box in plain ready; do boxrun exec $box -- systemctl kill -s KILL nginx child@1; done")
	h.is("plain", "degraded", "ended: child@1.service, nginx.service")
	h.is("ready", "unhealthy", "unit child@1.service has ended")
	if said := eventually(20*time.Second, func() string { // a job that runs just now has not failed
		return strings.TrimPrefix(h.sh("boxrun status --json plain | jq -c '.health.word, (.failed | sort)'"),
			"\"degraded\"\n[\"child@1.service\",\"job.service\",\"nginx.service\"]\n")
	}); said != "" {
		t.Errorf("status says\n%s", said)
	}
	h.must("boxrun", "down", "--all")
}

// Nobody looks at a box without [health], and ps sees all the same, as anybody, which service has ended; not those that are
// not enabled in the box. What failed at the start it tells as well.
func TestServicesThatEndAreSeen(t *testing.T) {
	h := newHost(t)
	h.sh("cp -a /srv/web /srv/frail; printf '[Service]\nType=oneshot\nExecStart=/bin/false\n' > /srv/frail/etc/systemd/system/frail.service;" +
		" ln -s ../frail.service /srv/frail/etc/systemd/system/multi-user.target.wants/")
	h.profile("plain", "image = \"/srv/web\"\n")
	h.profile("web", "image = \"/srv/web\"\n[ready]\nunits = [\"nginx.service\"]\n")
	h.profile("frail", "image = \"/srv/frail\"\n[health]\ninterval = \"0s\"\n")
	h.must("boxrun", "up", "plain", "web", "frail")
	h.is("plain", "running", "")
	h.is("web", "running", "")
	h.is("frail", "degraded", "failed at the start: frail.service")
	h.sh("boxrun exec plain -- systemctl stop nginx; boxrun exec web -- systemctl stop nginx")
	h.is("plain", "degraded", "ended: nginx.service")
	h.is("web", "unhealthy", "unit nginx.service has ended")
	if got := h.sh("runuser -u nobody -- boxrun ps plain"); !containsAll(got, []string{"plain  degraded", "(ended: nginx.service)"}) {
		t.Errorf("to nobody ps says\n%s", got)
	}
	if got := h.must("boxrun", "status", "plain"); !strings.Contains(got, "health:      degraded: ended: nginx.service\n") {
		t.Errorf("status says\n%s", got)
	}
	h.tells([]string{"plain: degraded: ended: nginx.service\n"}, "boxrun", "status", "--check", "plain")
	h.tells([]string{`plain: warning: nginx.service has ended: "boxrun exec plain -- systemctl start nginx.service" starts it`}, "boxrun", "up", "plain")
	h.is("plain", "degraded", "ended: nginx.service")
	h.sh("boxrun exec web -- systemctl start nginx; boxrun exec plain -- systemctl disable nginx; boxrun up plain")
	h.is("web", "running", "")
	h.is("plain", "running", "")
	h.must("boxrun", "down", "--all")
}

// is wants ps to have a word for a box, and why.
func (h host) is(box, word, why string) {
	h.t.Helper()
	want := fmt.Sprintf("%s: %s\n", word, why)
	if said := eventually(20*time.Second, func() string {
		if got := h.sh("boxrun ps --json " + box + ` | jq -r '.[0].health | .word + ": " + .why'`); got != want {
			return got
		}
		return ""
	}); said != "" {
		h.t.Errorf("ps says of %s\n%swant\n%s", box, said, want)
	}
}
