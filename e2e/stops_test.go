package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"boxrun/e2e/testhost"
	"boxrun/launcher/process"
)

// A mark is a moment of a start: something that is there from then on. unit is the service that the start is in.
type mark struct {
	name string
	seen func(h host, unit string) bool
}

const (
	boxRecord = "/run/boxrun/boxes/web.json"
	slice     = "/sys/fs/cgroup/system.slice/"
	scope     = slice + "apptainer-*.scope"
)

// marks are the moments of a start, in their order.
func marks() []mark {
	return []mark{
		{"the lock", there("/run/boxrun/locks/box-web.lock")},
		{"the record", there(boxRecord)},
		{"the bridge", there("/sys/class/net/sbr0")},
		{"the unit", func(h host, unit string) bool { return there(slice+unit)(h, unit) }},
		{"Apptainer's command", inUnit("\x00instance\x00start\x00")},
		{"Apptainer's starter", inUnit("Apptainer instance: root [web]")},
		{"the lease", there("/run/boxrun/leases/boxrun-sbr0/10.*")},
		{"the veth", there("/sys/class/net/sbr0/brif/veth*")},
		{"the scope", there(scope)},
		{"boxrun as its first process", ofInit("environ", "BOXRUN_CONFINE=")},
		{"Apptainer's record", there("/root/.apptainer/instances/app/host/root/web/web.json")},
		{"the image's init", ofInit("comm", "systemd\n")},
		{"the record of what runs", func(h host, _ string) bool { return h.phaseIs("running") }},
		{"the first service", there(scope + "/system.slice/systemd-journald.service")},
		{"the page's service", there(scope + "/system.slice/nginx.service")},
	}
}

// there sees a file of the host that matches a pattern.
func there(pattern string) func(host, string) bool {
	return func(h host, _ string) bool {
		found, _ := filepath.Glob(h.Inside(pattern)) // the patterns are well-formed
		return len(found) > 0
	}
}

// phaseIs reports whether the record of web has the phase.
func (h host) phaseIs(phase string) bool {
	text, _ := os.ReadFile(h.Inside(boxRecord)) // none before its start
	return bytes.Contains(text, []byte(`"phase": "`+phase+`"`))
}

// holds returns the process, as the machine counts, in a cgroup of the host with a word in a file of /proc; 0 for none.
func (h host) holds(cgroup, file, word string) int {
	lists, _ := filepath.Glob(h.Inside(cgroup + "/cgroup.procs")) // the patterns are well-formed
	for _, list := range lists {
		pids, _ := os.ReadFile(list) // of a cgroup that is gone there are none
		for pid := range strings.FieldsSeq(string(pids)) {
			number, _ := strconv.Atoi(pid) // the kernel wrote a number
			text, _ := os.ReadFile(process.ProcFile(number, file))
			if bytes.Contains(text, []byte(word)) {
				return number
			}
		}
	}
	return 0
}

// inUnit sees a process of the service with a word in its command line.
func inUnit(word string) func(host, string) bool {
	return func(h host, unit string) bool { return h.holds(slice+unit, "cmdline", word) > 0 }
}

// ofInit sees a word in a file of /proc of the box's first process.
func ofInit(file, word string) func(host, string) bool {
	return func(h host, _ string) bool {
		return h.holds(scope, file, word)+h.holds(scope+"/init.scope", file, word) > 0
	}
}

// A beginning is a way to start web, of which nothing is there before but what prepare has made.
type beginning struct {
	name, unit string
	enabled    bool
	prepare    string
	argv       []string
}

func beginnings() []beginning {
	const hand, service = "boxrun-web.service", "boxrun@web.service"
	return []beginning{
		{"up", hand, false, ":", []string{"boxrun", "up", "web"}},
		{"restart", hand, false, "boxrun up web", []string{"boxrun", "restart", "web"}},
		{"start of the service", service, true, ":", []string{"systemctl", "start", service}},
		{"restart of the service", service, true, "systemctl start " + service, []string{"systemctl", "restart", service}},
		{"restart of an enabled box", hand, true, "boxrun up web", []string{"boxrun", "restart", "web"}},
	}
}

// An ending is a way to ask for the end of a start: a signal to the boxrun that starts, then a script, "" for none. codes are how
// the start may end: 0 where it was quicker.
type ending struct {
	name   string
	signal syscall.Signal
	script string
	codes  []int
}

// endings are the ways to end a beginning.
func (b beginning) endings() []ending {
	signalled := []ending{{"SIGINT", syscall.SIGINT, "", []int{0, 130}}, {"SIGTERM", syscall.SIGTERM, "", []int{0, 130}}}
	codes := []int{0, 4}
	if b.argv[0] == "systemctl" {
		signalled, codes = nil, []int{0, 1}
	}
	return append(signalled,
		ending{"down", 0, "boxrun down web", codes},
		ending{"stop of the service", 0, "systemctl stop " + b.unit, codes},
		ending{"SIGKILL, then down", syscall.SIGKILL, "boxrun down web", []int{0, 1, 137}},
	)
}

// A stopped is one trial: a start that is to end at a mark.
type stopped struct {
	beginning
	mark
	ending
}

func (s stopped) String() string {
	return fmt.Sprintf("%s, at %s: %s", s.beginning.name, s.mark.name, s.ending.name)
}

// possible reports whether the ending reaches the start at the mark: systemd does not know the service before it has begun, and
// a restart that is interrupted before the new box begins may leave the old. The service of an enabled box is another one as soon
// as the box is ready.
func (s stopped) possible() bool {
	if s.beginning.name == "restart of an enabled box" && s.ending.name == "stop of the service" {
		return false
	}
	early := slices.IndexFunc(marks(), func(m mark) bool { return m.name == s.mark.name }) < 3
	return !early || s.beginning.name == "up" && s.ending.name != "stop of the service" || s.beginning.name == "start of the service"
}

// trials returns what is tried: all in a soak, else an up at each mark, by one way after the other, after a stop that has
// systemd kill Apptainer as it connects the box.
func trials() []stopped {
	up := beginnings()[0]
	stop := up.endings()[3]
	all := []stopped{{up, marks()[5], stop}, {up, marks()[5], stop}}
	ways := slices.DeleteFunc(up.endings(), func(e ending) bool { return e.name == stop.name })
	for i, m := range marks() {
		if !soak() {
			all = append(all, stopped{up, m, ways[i%len(ways)]})
			continue
		}
		for _, b := range beginnings() {
			for _, e := range b.endings() {
				if s := (stopped{b, m, e}); s.possible() {
					all = append(all, s)
				}
			}
		}
	}
	return all
}

// stopsSeed is of the run to be repeated, or a new one.
func stopsSeed() uint64 {
	if seed, err := strconv.ParseUint(os.Getenv("BOXRUN_SEED"), 10, 64); err == nil {
		return seed
	}
	return rand.Uint64()
}

// A start whose end somebody asks for at any moment ends, and leaves nothing; the next up serves.
func TestStopsAtEachMomentOfAStart(t *testing.T) {
	seed := stopsSeed()
	t.Logf("BOXRUN_SEED=%d repeats this", seed)
	chance := rand.New(rand.NewPCG(seed, seed))
	h := newHost(t)
	h.sh("boxrun up web; boxrun enable web; boxrun down web; boxrun disable web")
	clean := map[bool]testhost.Dump{false: h.dump()}
	h.must("boxrun", "enable", "web")
	clean[true] = h.dump()
	h.must("boxrun", "disable", "web")
	met, all := 0, trials()
	for _, s := range all {
		t.Run(s.String(), func(t *testing.T) {
			h := h.in(t)
			if s.enabled {
				h.must("boxrun", "enable", "web")
			}
			if h.stops(s, time.Duration(chance.Int64N(int64(20*time.Millisecond)))) {
				met++
			}
			h.nothingOf(s, clean[s.enabled])
			h.sh("boxrun disable web; boxrun up web")
			h.page()
			h.must("boxrun", "down", "web")
		})
	}
	if t.Logf("%d of %d starts were met at their mark", met, len(all)); met < len(all)/2 {
		t.Errorf("only %d of %d starts were met at their mark", met, len(all))
	}
}

// stops does one trial, and reports whether the start still went on when it was to end: a while after the mark.
func (h host) stops(s stopped, after time.Duration) (met bool) {
	h.t.Helper()
	h.sh(s.prepare)
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd, began := h.Command(ctx, s.argv...), time.Now()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the code tells
		close(done)
	}()
	if met = h.awaitMark(s, done); met {
		time.Sleep(after)
	}
	at := time.Since(began)
	end := h.endStart(s, cmd)
	<-done
	code := process.ExitCode(cmd.ProcessState)
	h.t.Logf("at %v the end was asked for: the start ended with %d, the end with %d, after %v", at.Round(time.Millisecond), code, end.Code,
		time.Since(began).Round(time.Millisecond))
	if !slices.Contains(s.codes, code) || time.Since(began)-at > promised(10*time.Second) {
		h.t.Errorf("after %v the start ended with %d, want one of %v; it said\n%s", time.Since(began), code, s.codes, &said)
	}
	if end.Code != 0 {
		h.t.Errorf("%s: %v\nthe start said:\n%s", s.script, end, &said)
	}
	if code == 0 && s.script == "" {
		h.must("boxrun", "down", "web")
	}
	return met
}

// awaitMark waits for the mark of a start, and reports whether it came before the start was done. What an old box has left is no
// mark of the start of a new one.
func (h host) awaitMark(s stopped, done <-chan struct{}) bool {
	anew := s.prepare == ":"
	for {
		anew = anew || h.phaseIs("starting")
		if anew && s.seen(h, s.unit) {
			return true
		}
		select {
		case <-done:
			return false
		case <-time.After(500 * time.Microsecond):
		}
	}
}

// endStart asks for the end of a start.
func (h host) endStart(s stopped, cmd *exec.Cmd) testhost.Result {
	h.t.Helper()
	if s.signal != 0 {
		if pid := h.starter(s, cmd); pid > 0 {
			_ = syscall.Kill(pid, s.signal) // it may have ended just now
		}
	}
	if s.script == "" {
		return testhost.Result{}
	}
	return h.run("sh", "-c", s.script)
}

// starter returns the boxrun that starts web, as the machine counts; 0 where it has ended.
func (h host) starter(s stopped, cmd *exec.Cmd) int {
	if s.argv[0] == "systemctl" {
		return h.holds(slice+s.unit, "cmdline", "boxrun\x00up\x00")
	}
	child, _ := os.ReadFile(process.ProcFile(cmd.Process.Pid, fmt.Sprintf("task/%d/children", cmd.Process.Pid))) // the only one, of nsenter
	pid, _ := strconv.Atoi(strings.TrimSpace(string(child)))
	return pid
}

// nothingOf wants nothing left of a start on a host that was clean before.
func (h host) nothingOf(s stopped, clean testhost.Dump) {
	h.t.Helper()
	if s.signal == syscall.SIGKILL {
		time.Sleep(settled)
		h.must("systemctl", "reset-failed") // systemd notes what it saw end
	}
	if said := eventually(5*time.Second, func() string {
		units := h.sh("systemctl list-units --plain --no-legend 'boxrun-web.service' 'apptainer-*' 'boxrun@*'; systemctl --failed --plain --no-legend; systemctl list-jobs --no-legend")
		return units + clean.Diff(h.dump(), left()...)
	}); said != "" {
		h.t.Errorf("it left\n%s\nthe journal of its service:\n%s", said, h.sh("journalctl -q -o short-precise -n 20 -u "+s.unit))
		h.sh("boxrun down web; systemctl reset-failed")
	}
}

// A down between two tries of systemd to start a box ends the tries: there is nothing of the box then but that systemd waits.
func TestADownBetweenTwoStarts(t *testing.T) {
	h := newHost(t)
	h.profile("never", "image = \"/srv/never\"\n")
	h.sh("mkdir -p /srv/never/bin; boxrun enable never; systemctl start boxrun@never || true")
	if said := eventually(10*time.Second, func() string {
		return strings.TrimPrefix(h.must("systemctl", "show", "-P", "SubState", "boxrun@never"), "auto-restart\n")
	}); said != "" {
		t.Fatalf("the service is %s, want it between two starts", said)
	}
	h.tells([]string{"never: is down\n"}, "boxrun", "down", "never")
	tries := h.must("systemctl", "show", "-P", "NRestarts", "boxrun@never")
	time.Sleep(3 * time.Second) // longer than systemd waits before it starts one anew
	h.gives(tries, "systemctl", "show", "-P", "NRestarts", "boxrun@never")
	h.tells([]string{"never: is not up\n"}, "boxrun", "down", "never")
}
