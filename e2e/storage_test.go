package e2e

import (
	"strings"
	"testing"
)

// keeping gives a profile of a box that keeps its root in a directory.
func keeping(dir string) string {
	return "image = \"/srv/web\"\n[storage]\nroot = \"overlay\"\noverlay = \"" + dir + "\"\n"
}

// Apptainer lets two boxes write one overlay; boxrun does not, whatever the directory is called.
func TestTwoBoxesNeverWriteOneOverlay(t *testing.T) {
	h := newHost(t)
	h.sh(`mkdir -p /var/kept/a /var/mounted && ln -s /var/kept /srv/link && mount --bind /var/kept/a /var/mounted`)
	h.profile("first", keeping("/var/kept/a"))
	h.must("boxrun", "up", "first")
	before := h.dump()
	for _, dir := range []string{"/var/kept/a", "/srv/link/a", "/var/mounted", "/var/kept/a/upper", "/var/kept"} {
		h.profile("second", keeping(dir))
		h.refuses(1, []string{"storage.overlay", dir, `"first"`}, "boxrun", "up", "second")
	}
	h.same(before, `^/run/boxrun/locks`, `^/etc/boxrun/profiles`)
	h.must("boxrun", "restart", "first") // its own it may have
	h.profile("backup", "image = \"builtin:hello\"\n[network]\nmode = \"none\"\n[storage]\nbinds = [\"/var/kept:/data\"]\n")
	if r := h.run("boxrun", "up", "backup"); r.Code != 0 || !strings.Contains(r.Stderr, `"/var/kept", which box "backup" can write, holds the overlay of box "first"`) {
		h.t.Errorf("up with a bind of another's overlay: %v\nwant a warning", r)
	}
	h.must("boxrun", "down", "backup")

	h.sh("pid=$(boxrun ps --json | jq '.[0].pid'); kill -9 $pid; while kill -0 $pid 2> /dev/null; do sleep 0.01; done")
	h.profile("second", keeping("/srv/link/a"))
	h.must("boxrun", "up", "second") // one that crashed writes nothing any more
	h.refuses(1, []string{"storage.overlay", `"second"`}, "boxrun", "up", "first")
	h.must("boxrun", "down", "second")
	h.must("boxrun", "up", "first")
	h.must("boxrun", "down", "--all")
}

// Two that come at the same moment do not miss each other: neither their overlay, which neither has made yet, nor a port.
func TestTwoAtOnceClaimOneThing(t *testing.T) {
	sideBySide(t)
	for what, text := range map[string]string{
		"overlay": keeping("/var/new/overlay"),
		"port":    "image = \"builtin:hello\"\n[network]\nports = [\"8080:80\"]\n",
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t)
			before := h.dump()
			h.profile("first", text)
			h.profile("second", text)
			got := h.sh(`boxrun up first & one=$!; boxrun up second && echo up || echo $?; wait $one && echo up || echo $?`)
			if got != "up\n1\n" && got != "1\nup\n" {
				t.Errorf("they ended with %q, want one up and one refused", got)
			}
			if list := boxes(h); len(list) != 1 {
				t.Errorf("ps says %+v, want one box", list)
			}
			h.must("boxrun", "down", "--all")
			h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
		})
	}
}

func TestOverlaysThatCannotBeAreRefused(t *testing.T) {
	h := newHost(t)
	h.sh(`mkdir /var/small && mount -t tmpfs -o size=64k tmpfs /var/small && ! dd if=/dev/zero of=/var/small/fill 2> /dev/null`)
	for _, test := range []struct {
		dir   string
		code  int
		words []string
	}{
		{"/srv/kept", 1, []string{"/srv/kept", "an overlay itself"}}, // as the root of a test host is one
		{"/var/small/kept", 1, []string{"/var/small/kept", "no space"}},
		{"/etc/passwd/kept", 1, []string{"/etc/passwd", "not a directory"}},
	} {
		before := h.dump()
		h.profile("bad", keeping(test.dir))
		h.refuses(test.code, append(test.words, "storage.overlay"), "boxrun", "up", "bad")
		h.same(before, `^/run/boxrun`, `^/etc/boxrun/profiles`)
	}
}

// A systemd that finds its root read-only boots all the same, and services that are given where to write work.
func TestAReadOnlyRootWorks(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.sh("mkdir -p /srv/state/log/nginx /srv/state/nginx /srv/state/systemd")
	h.profile("frozen", `image = "/srv/web"
[network]
ports = ["80"]
[storage]
root  = "read-only"
binds = ["/srv/state/log:/var/log", "/srv/state/nginx:/var/lib/nginx", "/srv/state/systemd:/var/lib/systemd"]
[ready]
units = ["nginx.service"]
http  = ["http://:80/"]
`)
	h.must("boxrun", "up", "frozen")
	h.page()
	if got := strings.TrimSpace(h.run("boxrun", "exec", "frozen", "--", "systemctl", "is-system-running").Stdout); got != "running" {
		t.Errorf("systemd is %s, want it running; failed: %s", got, h.run("boxrun", "exec", "frozen", "--", "systemctl", "--failed", "--plain").Stdout)
	}
	for path, want := range map[string]int{"/etc/mark": 1, "/usr/mark": 1, "/var/log/mark": 0, "/run/mark": 0, "/tmp/mark": 0} {
		if r := h.run("boxrun", "exec", "frozen", "--", "touch", path); r.Code != want {
			t.Errorf("touch %s: %v, want exit code %d", path, r, want)
		}
	}
	if got := h.run("boxrun", "cp", "/etc/hostname", "frozen:/etc/mark"); got.Code != 1 || !strings.Contains(got.Stderr, "read-only file system") {
		t.Errorf("cp: %v", got)
	}
	h.must("boxrun", "down", "frozen")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
}
