package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"
)

// cruel is a box whose root plays the behaviours of e2e/cmd/hostile.
const cruel = `image = "/srv/web"
[network]
ports = ["8081:80"]
[storage]
root  = "overlay"
binds = ["/usr/local/bin/hostile:/usr/local/bin/hostile:ro"]
[systemd]
stop_timeout = "2s"
journal = "host"
[ready]
timeout = "8s"
http = ["http://:80/"]
[health]
interval = "1h"
`

// sampled are behaviours of which a change is likely to break something; a soak plays all of them.
var sampled = []string{"passwd=fifo", "systemd=endless", "tree-swapped", "link-gone", "system-aborts"}

// ownEnd are verbs whose end is the end of a command in the box, which may take for ever once the command has begun: an
// interruption ends the verb.
var ownEnd = []string{"exec", "shell", "logs -f", "kept export"}

// A meeting is a verb, and the seconds that the verb may take.
type meeting struct {
	seconds int
	verb    string
}

// looks are verbs that may meet a box at once.
var looks = []meeting{
	{20, "ps"}, {20, "ps --json"}, {20, "status evil"}, {20, "status --json evil"}, {20, "status --check evil"}, {20, "diff evil"},
	{45, "doctor evil"}, {40, "logs -n 20 evil"}, {40, "logs -n 20 -u nginx.service evil"}, {1, "logs -f evil"},
	{20, "stats --no-stream"}, {20, "stats --format prometheus"}, {20, "health evil"}, {20, "trace --time 1s evil"},
	{20, "kept list"}, {20, "host show"}, {20, "profile list"}, {5, "exec evil -- true"}, {5, "exec -u www-data evil -- id"},
	{40, "exec evil -- true"}, {5, "shell evil"}, {70, "cp evil:/var/tree /srv/out/tree"}, {70, "cp evil:/etc/hosts /srv/out/"},
	{70, "cp /srv/in evil:/var/tree/"}, {70, "cp /srv/in evil:/etc/canary"}, {20, "__complete cp evil:/var/"},
	{20, "up --dry-run evil"}, {20, "down --dry-run evil"},
}

// acts are the verbs that change something, in their order.
var acts = []meeting{{20, "repair"}, {20, "up --wait-timeout 3s evil"}}

// remains are verbs that meet what a box that is down has left, and take it away.
var remains = []meeting{
	{15, "logs -n 20 evil"}, {10, "kept list"}, {20, "kept export evil/overlay"}, {20, "kept rm -y evil"},
}

// Root of a box does what root can, and each verb ends in time, stays small, prints no control bytes, follows no link
// out of the box, and leaves no program that runs as root.
func TestHostileBoxes(t *testing.T) {
	h := newHostileHost(t)
	h.profile("evil", cruel)
	h.must("boxrun", "up", "evil")
	h.must("boxrun", "down", "evil")
	h.must("boxrun", "kept", "rm", "-y", "evil")
	before := h.dump()
	names := sampled
	if soak() {
		names = strings.Fields(h.must("hostile", "list"))
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { h.in(t).withstands(name) })
	}
	t.Run("in the place of boxrun", func(t *testing.T) { h.in(t).handsOverNothing() })
	h.same(before, left()...)
}

// handsOverNothing has a box put its own program where Apptainer looks for boxrun: the program gets no file that the
// caller of boxrun has open, nothing that leads to the host, and no capability that the box's init has not.
func (h host) handsOverNothing() {
	h.must("boxrun", "up", "evil")
	h.plays("proc-forged")
	h.run("bash", "-c", "exec 9< /srv/canary/secret 11< /srv; boxrun exec evil -- true")
	init := strings.TrimSpace(h.sh("jq .state.init.pid /run/boxrun/boxes/evil.json"))
	got := h.must("cat", "/proc/"+init+"/root/var/entered")
	bounds := strings.TrimSpace(h.sh("grep CapBnd /proc/" + init + "/status | cut -f2"))
	if !strings.HasSuffix(got, "capabilities "+bounds+"\n") || regexp.MustCompile(`(?m)^fd (9|11) |host$`).MatchString(got) {
		h.t.Errorf("a program in the place of boxrun found\n%swant the capabilities %s, and nothing of the host", got, bounds)
	}
	h.run("boxrun", "down", "-t", "0", "evil")
	h.must("boxrun", "kept", "rm", "-y", "evil")
}

// An init of an image does what an init can.
func TestHostileInits(t *testing.T) {
	if !soak() {
		t.Skip("minutes of waiting, in a soak")
	}
	h := newHostileHost(t)
	h.sh(`cd /srv; mkdir -p evil/{sbin,etc,dev,proc,sys,tmp,run,var,root,bin,usr/bin}; cp /usr/local/bin/hostile evil/sbin/init
		cp evil/sbin/init evil/bin/true; echo root:x:0:0:root:/root:/bin/sh > evil/etc/passwd`)
	h.profile("evil", strings.NewReplacer("/srv/web", "/srv/evil", "binds =", "# ", "8s", "3s").Replace(cruel))
	h.must("boxrun", "up", "web")
	h.must("boxrun", "down", "web")
	before := h.dump()
	for _, name := range []string{"does nothing", "ends", "prints", "nasty", "zombies", "endless", "deaf", "errors"} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			h.sh("echo '" + name + "' > /srv/evil/etc/hostile")
			h.meets(meeting{20, "up evil"})
			h.meetsAll()
			h.meets(meeting{12, "down evil"})
			h.run("boxrun", "kept", "rm", "-y", "evil")
			h.nothingLeft()
		})
	}
	h.same(before, left()...)
}

// newHostileHost boots a host with the program hostile, and files that no box may reach.
func newHostileHost(t *testing.T) host {
	t.Helper()
	h := newHost(t)
	if err := h.Copy(t.Context(), filepath.Join(filepath.Dir(h.probe), "hostile"), "/usr/local/bin/hostile"); err != nil {
		t.Fatal(err)
	}
	h.sh(`mkdir -p -m 700 /srv/canary /srv/out; echo in > /srv/in; echo CANARY > /srv/canary/secret
		for f in passwd group hosts; do echo 'canary:x:0:0:CANARY:/:/bin/sh' > /srv/canary/$f; done`)
	return h
}

// withstands has a box play a behaviour, and every verb meet the box.
func (h host) withstands(name string) {
	defer h.run("boxrun", "down", "-t", "0", "evil") // of a test that failed on its way
	h.must("boxrun", "up", "evil")
	h.plays(name)
	h.meetsAll()
	for _, m := range acts {
		h.meets(m)
	}
	if soak() {
		h.meets(meeting{30, "restart evil"})
		h.plays(name)
	}
	h.meets(meeting{12, "down evil"})
	for _, m := range remains {
		h.meets(m)
	}
	h.nothingLeft()
}

// meetsAll has all looks meet the box, some at once.
func (h host) meetsAll() {
	const lanes = 8
	var all sync.WaitGroup
	for i := range lanes {
		all.Go(func() {
			for j := i; j < len(looks); j += lanes {
				h.meets(looks[j])
			}
		})
	}
	all.Wait()
}

// nothingLeft wants no box, and nothing of a box where a copy is, but a copy.
func (h host) nothingLeft() {
	if up := h.must("boxrun", "ps", "-q"); up != "" {
		h.t.Errorf("after down boxes are up: %s", up)
	}
	h.sh(`[ "$(cat /srv/canary/secret)" = CANARY ]; [ "$(ls /srv/canary)" = "$(printf 'group\nhosts\npasswd\nsecret')" ]`)
	left := h.sh(`find /srv/out /tmp /run -xdev -perm /6000 -type f
		tar -S --xattrs --xattrs-include='*' -cf - /srv/out 2> /dev/null | grep -aoE 'security.capability|CANARY' || true`)
	if left != "" {
		h.t.Errorf("what was copied from the box has\n%s", left)
	}
	h.sh("rm -rf /srv/out; mkdir -m 700 /srv/out")
}

// plays has root of the box play a behaviour. A behaviour that the box's kernel or level refuses is none.
func (h host) plays(name string) {
	r := h.run("timeout", "20", "boxrun", "exec", "evil", "--", "hostile", "play", name)
	if r.Code != 0 {
		h.t.Logf("%s is not played: %v", name, r)
	}
}

// meets runs a verb, and says what is wrong with how the verb went.
func (h host) meets(q meeting) {
	argv := append([]string{"hostile", "measure", fmt.Sprint(q.seconds), "boxrun"}, strings.Fields(q.verb)...)
	var m struct {
		Code              int
		Seconds           float64
		MiB               int
		Interrupted, Hung bool
		Stdout, Stderr    []byte
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*patience)
	defer cancel()
	r, err := h.Exec(ctx, argv...)
	if err = errors.Join(err, json.Unmarshal([]byte(r.Stdout), &m)); err != nil {
		h.t.Error(err)
		return
	}
	verb := q.verb
	wrong := func(format string, args ...any) {
		h.t.Errorf("boxrun %s: %s: exit code %d after %.1f s\nstdout: %.2000q\nstderr: %.2000q", verb, fmt.Sprintf(format, args...), m.Code, m.Seconds, m.Stdout, m.Stderr)
	}
	h.t.Logf("%s: code %d, %.2f s, %d MiB: %.300q", verb, m.Code, m.Seconds, m.MiB, m.Stderr)
	foreign := slices.ContainsFunc(ownEnd, func(v string) bool { return strings.HasPrefix(verb, v) })
	said := m.Stderr
	if !foreign {
		said = slices.Concat(m.Stdout, m.Stderr)
	}
	if m.Hung || m.Interrupted && !foreign {
		wrong("does not end in %d s", q.seconds)
	}
	if verb == "status evil" && m.Code != 0 && m.Code != 3 {
		wrong("shows nothing")
	}
	if m.MiB > 100 {
		wrong("grows to %d MiB", m.MiB)
	}
	if bad := controls(said); bad != "" {
		wrong("prints %s", bad)
	}
	if strings.Contains(string(m.Stdout)+string(m.Stderr), "CANARY") || strings.Contains(string(m.Stderr), "panic:") {
		wrong("prints what it should not")
	}
}

// controls returns the first of the bytes that move a terminal's cursor, change its state or the order of text.
func controls(text []byte) string {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		bad := r == utf8.RuneError && size == 1 || unicode.Is(unicode.Bidi_Control, r) || unicode.IsControl(r) && r != '\n' && r != '\t'
		if bad {
			return fmt.Sprintf("%q in %q", text[i:i+size], text[max(0, i-60):min(len(text), i+60)])
		}
		i += size
	}
	return ""
}
