package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"boxrun/launcher"
	"boxrun/launcher/doctor"
)

// views is what each verb says of a box at one time.
type views struct {
	Ps, Status launcher.Detail // of ps, the keys that status has as well
	Diff       launcher.Diff
	Doctor     []doctor.Check
	Codes      struct{ Diff, Check, Valid, Doctor int } // of diff, status --check, profile check, doctor
	Check      string                                   // line of status --check
	Said       string                                   // by profile check
	PsText     string
	StatusText string
}

// look has all verbs look at a box. doctor comes last, as it makes a network for a client of its own.
const look = `box=$1; d=$(mktemp -d); cd "$d"
look() { local code=0; "${@:2}" > "$1" 2> "$1.err" || code=$?; echo $code > "$1.code"; }
look ps boxrun ps --json $box & look drift boxrun ps --drift --json $box & look status boxrun status --json $box & look diff boxrun diff --json $box &
look check boxrun status --check $box & look valid boxrun profile check $box & look pstext boxrun ps $box & look statustext boxrun status $box &
wait
test "$(jq .[].drift ps)" = "$(jq .[].drift drift)"
look doctor boxrun doctor --json $box
code() { cat $1.code; }
jq -n --slurpfile ps ps --slurpfile status status --slurpfile diff diff --slurpfile doctor doctor --rawfile check check \
	--rawfile said valid.err --rawfile pstext pstext --rawfile statustext statustext \
	--argjson codes "{\"Diff\": $(code diff), \"Check\": $(code check), \"Valid\": $(code valid), \"Doctor\": $(code doctor)}" \
	'{Ps: $ps[0][0], Status: $status[0], Diff: $diff[0], Doctor: $doctor[0], Codes: $codes, Check: $check, Said: $said, PsText: $pstext, StatusText: $statustext}'
rm -r "$d"`

func (h host) views(box string) views {
	h.t.Helper()
	var v views
	if err := json.Unmarshal([]byte(h.must("bash", "-ec", look, "look", box)), &v); err != nil {
		h.t.Fatal(err)
	}
	return v
}

// check returns the status of a check of doctor; "" where doctor has no such check.
func (v views) check(name string) doctor.Verdict {
	i := slices.IndexFunc(v.Doctor, func(c doctor.Check) bool { return c.Name == name })
	if i < 0 {
		return ""
	}
	return v.Doctor[i].Status
}

// contradictions returns a line for each two verbs that say of the same box what cannot both be.
func (v views) contradictions() []string {
	var lines []string
	same := func(what string, got, want any) {
		if g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != w {
			lines = append(lines, fmt.Sprintf("%s: %s and %s", what, g, w))
		}
	}
	changed, drifted := v.Status.Changed, len(v.Status.Drift) > 0
	has := func(word string) string { return fmt.Sprint(slices.Contains(changed, word)) }
	same("changed, by ps and status", v.Ps.Changed, changed)
	same("drift, by ps and status", v.Ps.Drift, v.Status.Drift)
	if v.Codes.Diff == 0 {
		same("drift, by diff and status", v.Diff.Drift, v.Status.Drift)
		same("a changed profile, by diff and status", fmt.Sprint(len(v.Diff.Profile) > 0), has("profile"))
		same("a changed image, by diff and status", fmt.Sprint(v.Diff.Image != ""), has("image"))
		same("changed secrets, by diff and status", fmt.Sprint(len(v.Diff.Secrets) > 0), has("secrets"))
	} else {
		same("exit codes of diff and profile check", fmt.Sprint(v.Codes.Diff), fmt.Sprint(v.Codes.Valid))
	}
	same("profile_now and changed of status", fmt.Sprint(v.Status.ProfileNow != ""), has("profile"))

	word := v.Status.Health.Word
	if v.Ps.Health.Word != "running" || word != "healthy" {
		same("words of ps and status", v.Ps.Health.Word, word)
	}
	same("words of status --check and status", strings.SplitN(strings.TrimSpace(v.Check), ": ", 3)[1], word)
	same("the exit code of status --check and the word of status", fmt.Sprint(v.Codes.Check), fmt.Sprint(map[string]int{"unhealthy": 10, "drifted": 12}[word]))
	same("drifted, by the word of status and by its list", fmt.Sprint(word == "drifted"), fmt.Sprint(drifted && word != "unhealthy"))
	same("state, by doctor and by status", v.check("state"), map[string]doctor.Verdict{
		"healthy": doctor.Pass, "degraded": doctor.Warn, "drifted": doctor.Fail, "unhealthy": doctor.Fail}[word])

	profile := doctor.Pass
	switch {
	case v.Codes.Valid != 0:
		profile = doctor.Fail
	case len(changed) > 0:
		profile = doctor.Warn
	}
	same("the profile, by doctor and by profile check", v.check("profile"), profile)
	same("is valid, and exit code 0, of profile check", fmt.Sprint(strings.Contains(v.Said, "is valid")), fmt.Sprint(v.Codes.Valid == 0))
	same("FAIL, and exit code 1, of doctor", fmt.Sprint(doctor.Failed(v.Doctor)), fmt.Sprint(v.Codes.Doctor == 1))
	same("drifted, by the tables of ps and status", fmt.Sprint(strings.Contains(v.PsText, "drifted")), fmt.Sprint(strings.Contains(v.StatusText, "\ndrifted: ")))
	same("changed, by the table of ps and by status", fmt.Sprint(strings.Contains(v.PsText, strings.Join(changed, ", ")+" changed")), fmt.Sprint(len(changed) > 0))
	return lines
}

// change is something that becomes different under a running box, and what all verbs have to say of it.
type change struct {
	name, script, undo string
	heal               string // what of it is taken back before up
	profile            string // lines of the profile in place of those of the same keys

	changed string // words of ps, joined
	now     string // profile_now
	drift   string // part of a line; "" for none
	word    string // of status; "": healthy, or drifted
	valid   int    // exit code of profile check
	up      int    // exit code of up
	says    string // by up
	stays   bool   // up does not mend the drift
}

// agreed is the profile that the changes are made to.
const agreed = `image = "/srv/image"
network.ports = ["80"]
systemd.environment.TZ = "UTC"
secrets.token = "/root/token"
ready.units = ["nginx.service"]
ready.http = ["http://:80/"]
`

// replaced returns the profile agreed with lines in place of those with the same keys.
func replaced(lines string) string {
	var kept []string
	for line := range strings.Lines(agreed) {
		key, _, _ := strings.Cut(line, " = ")
		if !strings.Contains("\n"+lines, "\n"+key+" = ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "") + lines
}

// edits are changes of every key of the format.
func edits(controllers string) []change {
	var all []change
	for _, lines := range []string{
		"description = 'other'", "image = '/srv/web'", "hostname = 'other'", "depends_on = ['hello']",
		"network.mode = 'none'\nnetwork.ports = []\nready.http = []", "network.bridge = 'sbr1'", "network.subnet = '10.24.0.0/16'", "network.subnet6 = ''",
		"network.mtu = 1400", "network.ip = '10.22.0.9'", "network.external = 'eth0'", "network.dns = ['192.0.2.2']", "network.search = ['x.test']", "network.dns_options = ['ndots:2']",
		"network.offload = 'keep'", "network.metadata = 'allow'", "network.marks = '0x70000000'",
		"network.mode = 'lan'\nnetwork.ports = []\nnetwork.parent = 'eth0'\nnetwork.address = '192.0.2.50/24'\nnetwork.gateway = '192.0.2.2'\n" +
			"network.address6 = '2001:db8:7::50/64'\nnetwork.gateway6 = 'fe80::1'",
		"storage.root = 'overlay'", "storage.root = 'overlay'\nstorage.overlay = '/var/lib/other'", "storage.root = 'overlay'\nstorage.overlay_size = '64M'",
		"storage.binds = ['/srv/copy:/data']", "systemd.environment.TZ = 'CET'", "systemd.environment.OTHER = '1'", "systemd.mask = ['x.service']",
		"systemd.stop_timeout = '60s'", "systemd.restart = 'no'", "systemd.journal = 'host'", "security.level = 'strict'",
		"security.capabilities = ['CAP_IPC_LOCK']", "security.devices = ['/dev/fuse']", "ready.timeout = '80s'", "ready.units = []",
		"ready.tcp = [80]", "ready.http = []", "ready.hint = 'x'", "health.interval = '1h'", "health.timeout = '9s'", "health.retries = 2",
		"health.interval = '1h'\nhealth.action = 'restart'", "health.on_failure = 'dbus.service'", "secrets.other = '/root/token'", "secrets.token = '/root/token2'",
		"apptainer.args = ['--no-umask']", "hooks.post_up = [['true']]",
	} {
		all = append(all, change{name: lines, profile: lines, changed: "profile", now: "changed", says: "older version of its profile"})
	}
	for _, line := range []string{"network.ports = ['80', '81:80']", "network.allow_from = ['192.0.2.0/24']"} {
		key, _, _ := strings.Cut(line, " = ")
		all = append(all, change{name: line, profile: line, changed: "profile", now: "ports", says: "follows its profile: " + key})
	}
	for key, limit := range map[string]string{"memory": "'512M'", "cpus": "0.5", "pids": "100"} {
		line := "resources." + key + " = " + limit
		c := change{name: line, profile: line, changed: "profile", now: "limits", says: "mended: resources." + key}
		if controller := strings.TrimSuffix(key, "s"); !strings.Contains(controllers, controller) {
			c.valid, c.up, c.says = 1, 1, "there is no "
		}
		all = append(all, c)
	}
	return append(all, change{name: "build.definition", profile: "build.definition = '/root/web.def'", says: "nothing to change"})
}

const inWeb = "boxrun exec web -- "

// happenings are changes of files, of the host and in the box.
func happenings() []change {
	return []change{
		{name: "nothing", says: "nothing to change"},
		{name: "a comment", profile: "# a comment", says: "nothing to change"},
		{name: "a bind that is not there", profile: "storage.binds = ['/nosuch:/x']", changed: "profile", now: "changed", valid: 1, says: "older version"},
		{name: "a key that is not known", profile: "nosuch = 1", changed: "profile", now: "invalid", valid: 2, up: 2, says: "nosuch"},
		{name: "no TOML", profile: "= =", changed: "profile", now: "invalid", valid: 2, up: 2, says: "web.toml:"},
		{name: "the profile removed", script: "rm /etc/boxrun/profiles/web.toml", changed: "profile", now: "removed", valid: 3, up: 3, says: "no such profile"},
		{name: "the profile writable", script: "chmod 666 /etc/boxrun/profiles/web.toml", undo: "chmod 644 /etc/boxrun/profiles/web.toml", valid: 2, up: 2, says: "writable for everybody"},
		{name: "the image replaced", script: "ln -sfn /srv/copy /srv/image", undo: "ln -sfn /srv/web /srv/image", changed: "image", says: "its image was replaced"},
		{name: "the image removed", script: "rm /srv/image", undo: "ln -s /srv/web /srv/image", changed: "image", valid: 1, says: "its image was removed"},
		{name: "a secret changed", script: "echo 2 > /root/token", undo: "echo 1 > /root/token", changed: "secrets", says: "secrets.token has changed"},
		{name: "a secret removed", script: "mv /root/token /root/gone", undo: "mv /root/gone /root/token", changed: "secrets", valid: 1, says: "secrets.token has changed"},
		{name: "rules flushed", script: "iptables -t nat -F BOXRUN-DN-web", drift: "BOXRUN-DN-web", says: "mended: "},
		{name: "a rule before ours", script: "iptables -I FORWARD -j ACCEPT", undo: "iptables -D FORWARD -j ACCEPT", drift: "FORWARD", says: "mended: "},
		{name: "a unit of [ready] stopped", script: inWeb + "systemctl stop nginx", heal: inWeb + "systemctl start nginx", word: "unhealthy", says: "nothing to change"},
		{name: "a unit of [ready] stopped, and drift", script: inWeb + "systemctl stop nginx; iptables -t nat -F BOXRUN-DN-web",
			heal: inWeb + "systemctl start nginx", word: "unhealthy", drift: "BOXRUN-DN-web", says: "mended: "},
		{name: "a sysctl", script: "sysctl -qw net.ipv4.ip_forward=0", drift: "ip_forward", says: "mended: "},
		{name: "Apptainer's record emptied", script: ": > $(jq -r .state.record /run/boxrun/boxes/web.json)", drift: "exec and shell go by it", says: "mended: "},
		{name: "apptainer.conf removed", script: "rm /run/boxrun/apptainer.conf", drift: "exec and shell go by it", says: "mended: "},
		{name: "another name server", script: "cp /etc/resolv.conf /root; echo nameserver 192.0.2.7 > /etc/resolv.conf", undo: "cat /root/resolv.conf > /etc/resolv.conf; boxrun repair",
			drift: "the name servers of box web are not those", says: "mended: "},
		{name: "a route over the subnet", script: "ip route add 10.22.128.0/17 via 192.0.2.2", undo: "ip route del 10.22.128.0/17 via 192.0.2.2",
			drift: "overlaps the route", says: "overlaps the route", stays: true},
		{name: "another machine-id and name", script: "cp /etc/machine-id /root; echo 0123456789abcdef0123456789abcdef > /etc/machine-id; hostname other",
			undo: "cat /root/machine-id > /etc/machine-id; hostname host", says: "nothing to change"},
		{name: "drift and a changed profile", script: "iptables -t nat -F BOXRUN-DN-web", profile: "description = 'other'", changed: "profile", now: "changed", drift: "BOXRUN-DN-web", says: "older version"},
	}
}

// All verbs that look at a running box say the same of it, whatever changes under it: one thing at a time.
func TestVerbsAgree(t *testing.T) {
	h := newHost(t)
	h.sh("ln -s /srv/web /srv/image; install -D -m 755 /bin/true /srv/copy/sbin/init; echo 1 | install -m 600 /dev/stdin /root/token; cp -a /root/token /root/token2; printf 'Bootstrap: localimage\nFrom: /srv/web\n' > /root/web.def")
	h.profile("web", agreed)
	h.must("boxrun", "up", "web")
	edits := edits(h.must("cat", "/sys/fs/cgroup/cgroup.controllers"))
	h.coversAllKeys(edits)
	for i, c := range append(happenings(), edits...) {
		if edit := i - len(happenings()); edit > 0 && edit%8 != 0 && c.now == "changed" && !soak() {
			continue // the keys are alike: a sample
		}
		t.Run(c.name, func(t *testing.T) { h.in(t).agreeOn(c) })
	}
}

// agreeOn makes a change under the box web, wants all verbs to say it, and takes it back.
func (h host) agreeOn(c change) {
	h.t.Helper()
	h.profile("web", replaced(c.profile+"\n"))
	h.sh(c.script + "\ntrue")
	v := h.views("web")
	for _, line := range v.contradictions() {
		h.t.Error(line)
	}
	pid, drift := v.Status.PID, strings.Join(v.Status.Drift, "\n")
	if got := strings.Join(v.Status.Changed, ", "); got != c.changed || v.Status.ProfileNow != c.now || !strings.Contains(drift, c.drift) || c.drift == "" && drift != "" {
		h.t.Errorf("changed %q, profile_now %q, drift %q; want %q, %q, %q", got, v.Status.ProfileNow, drift, c.changed, c.now, c.drift)
	}
	if c.word != "" && v.Status.Health.Word != c.word {
		h.t.Errorf("the word is %q, want %q", v.Status.Health.Word, c.word)
	}
	h.sh(c.heal + "\ntrue")
	if v.Codes.Valid != c.valid {
		h.t.Errorf("profile check: exit code %d, want %d: %s", v.Codes.Valid, c.valid, v.Said)
	}
	up := h.run("boxrun", "up", "web")
	if up.Code != c.up || !strings.Contains(up.Stderr, c.says) {
		h.t.Errorf("up: %v\nwant exit code %d and %q", up, c.up, c.says)
	}
	if left := h.sh("boxrun status --json web | jq -r '.drift[]'"); (left != "") != c.stays {
		h.t.Errorf("after up there is the drift %q", left)
	}
	h.profile("web", agreed)
	h.sh(c.undo + "\ntrue")
	if c.now == "ports" {
		h.must("boxrun", "up", "web")
	}
	if now := h.sh("boxrun status --json web | jq -c '[.changed, .drift, .pid]'"); now != fmt.Sprintf("[[],[],%d]\n", pid) {
		h.t.Errorf("taken back: changed, drift and pid are %s, want nothing and %d", now, pid)
	}
	if h.t.Failed() {
		h.t.Logf("said:\n%s%s%s%s%s", v.PsText, v.StatusText, v.Check, v.Said, trouble(v.Doctor))
	}
}

// coversAllKeys wants a change for each key of the format, as the template has them.
func (h host) coversAllKeys(edits []change) {
	h.t.Helper()
	section, all := "", ""
	for _, c := range edits {
		all += "\n" + c.profile
	}
	for line := range strings.Lines(h.sh("cd /tmp; boxrun profile init every 2> /dev/null; cat every.toml")) {
		key, _, is := strings.Cut(strings.TrimPrefix(line, "#"), " = ")
		switch {
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]\n") + "."
		case is && !strings.Contains(key, " ") && !strings.Contains(all, "\n"+section+key+" ") && !strings.Contains(all, "\n"+section+key+"."):
			h.t.Errorf("no change of %s%s is tried", section, key)
		}
	}
}

// A built-in profile that a file takes the place of has changed, for all verbs.
func TestVerbsAgreeOnABuiltInProfile(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "hello")
	h.sh("boxrun profile show hello | sed 's/^hostname .*/hostname = \"other\"/' > /root/hello.toml; mv /root/hello.toml /etc/boxrun/profiles")
	v := h.views("hello")
	for _, line := range v.contradictions() {
		t.Error(line)
	}
	if !slices.Equal(v.Ps.Changed, []string{"profile"}) {
		t.Errorf("ps says that %q changed, want profile", v.Ps.Changed)
	}
	h.must("boxrun", "up", "--replace", "hello")
	if v = h.views("hello"); len(v.contradictions()) > 0 || len(v.Ps.Changed) > 0 {
		t.Errorf("after up --replace: %q, changed %q", v.contradictions(), v.Ps.Changed)
	}
}
