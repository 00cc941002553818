package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// silent mounts a file system in which every look at a file waits for an answer that never comes.
const silent = `mkdir -p /srv/silent; setsid hostile silent /srv/silent > /dev/null 2>&1 & for i in $(seq 100); do mountpoint -q /srv/silent && exit 0; sleep 0.05; done; exit 1`

// A file system that does not answer holds up nobody: a start is refused with what does not answer, an interruption ends
// it, and a box whose image has gone silent is looked at, entered and taken down.
func TestHungFileSystem(t *testing.T) {
	h := newHostileHost(t)
	h.sh("mkdir -p /srv/late/web; mount --bind /srv/web /srv/late/web")
	h.profile("late", "image = \"/srv/late/web\"\n")
	h.isToldOfAKill()
	h.must("boxrun", "up", "late")
	h.sh(strings.ReplaceAll(silent, "/srv/silent", "/srv/late"))
	h.sh(silent)
	var all sync.WaitGroup
	var interrupted []string
	for _, c := range []struct{ name, word, text string }{
		{"image", "image: ", "image = \"/srv/silent/x.sif\"\n"},
		{"overlay", "storage.overlay: ", "image = \"/srv/web\"\n[storage]\nroot = \"overlay\"\noverlay = \"/srv/silent/o\"\n"},
		{"bind", "storage.binds[0]: ", "image = \"/srv/web\"\n[storage]\nbinds = [\"/srv/silent/b:/b\"]\n"},
		{"secret", "/srv/silent/s", "image = \"/srv/web\"\n[secrets]\na = \"/srv/silent/s\"\n"},
	} {
		h.profile(c.name, c.text)
		for _, verb := range []string{"up", "up --dry-run", "profile check", "doctor"} {
			all.Go(func() { h.endsWith(c.word, 9, strings.Fields("boxrun "+verb+" "+c.name)...) })
		}
		for _, verb := range []string{"up", "up --dry-run", "up --build", "profile check"} {
			interrupted = append(interrupted, verb+" "+c.name)
		}
	}
	interrupted = append(interrupted, "ps", "status late", "diff late", "up late", "up --replace --dry-run late", "enable secret")
	for _, verb := range []string{"ps", "status late", "exec late -- hostname", "logs -n 1 late"} {
		all.Go(func() { h.endsWith("late", 9, strings.Fields("boxrun "+verb)...) })
	}
	all.Wait()
	for few := range slices.Chunk(interrupted, 6) { // a busy machine would be too late for the interrupt
		for _, verb := range few {
			all.Go(func() { h.isInterrupted(verb) })
		}
		all.Wait()
	}
	h.must("timeout", "-s", "KILL", "12", "boxrun", "down", "late")
	h.sh("umount -l /srv/silent /srv/late; kill $(pgrep -x hostile); umount /srv/late/web")
	if left := h.must("boxrun", "host", "show"); left != "" {
		t.Errorf("after down there are\n%s", left)
	}
}

// isInterrupted wants a verb, interrupted while it looks at a file system that does not answer, to end for that: a look ends
// by itself after three seconds, with another exit code. On a busy machine the interrupt may come after that: then once more.
func (h host) isInterrupted(verb string) {
	argv := append(strings.Fields("timeout --preserve-status --foreground -k 9 -s INT 1 boxrun"), strings.Fields(verb)...)
	for try := 1; ; try++ {
		began := time.Now()
		r := h.run(argv...)
		late := time.Since(began) > 3*time.Second
		if r.Code == 130 {
			return
		}
		if !late || try == 3 {
			h.t.Errorf("an interrupted %s: %v", verb, r)
			return
		}
	}
}

// endsWith wants a command to end in so many seconds, and to say the word.
func (h host) endsWith(word string, seconds int, argv ...string) {
	r := h.run(append([]string{"timeout", "-s", "KILL", fmt.Sprint(seconds)}, argv...)...)
	if r.Code == 137 || !strings.Contains(r.Stdout+r.Stderr, word) {
		h.t.Errorf("%s: %v\nwant the word %q", strings.Join(argv, " "), r, word)
	}
}

// isToldOfAKill has somebody kill Apptainer in the middle of a start: what the box said last is not blamed.
func (h host) isToldOfAKill() {
	r := h.run("bash", "-c", `boxrun up late & for i in $(seq 900); do p=$(pgrep -of '^[^ ]*apptainer.* [i]nstance start ') && kill -9 $p && break; done; wait $!`)
	if r.Code != 4 || !strings.Contains(r.Stderr, "late: the box did not start: boxrun-late.service: failed") {
		h.t.Errorf("a start whose Apptainer is killed: %v", r)
	}
}
