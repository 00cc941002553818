package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

const webURL = "http://" + testhost.HostAddr + "/"

// page fetches a page of the box web on the client, at once: what is up answers.
func (h host) page() {
	h.t.Helper()
	if got := h.client("curl", "-sS", "-m", "5", webURL); !strings.Contains(got, "nginx in a box") {
		h.t.Errorf("the client got %q, want the page of the box", got)
	}
}

func TestUpMeansUpAndDownMeansGone(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.must("boxrun", "up", "web")
	h.page()
	up := h.dump()
	h.must("boxrun", "up", "web")
	h.same(up)
	h.page()
	h.must("boxrun", "down", "web")
	h.same(before, stays()...)
}

// A host that forwards already, with settings nobody needs to change, is the same to the last line.
func TestDownRestoresAHostThatNeedsNoSettings(t *testing.T) {
	h := newHost(t)
	h.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0")
	before := h.dump()
	h.must("boxrun", "up", "web")
	h.must("boxrun", "down", "web")
	h.same(before, stays()[3:]...)
}

// A failed up takes forwarding back, and accept_redirects, which the kernel resets with it.
func TestAFailedUpRestoresSysctls(t *testing.T) {
	h := newHost(t)
	h.sh("sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.all.rp_filter=1")
	h.profile("dead", "image = \"/srv/dead\"\n")
	h.sh(hostile)
	before := h.dump()
	h.fails(4, []string{"boxrun: "}, "boxrun", "up", "dead")
	h.same(before, stays()[3:]...)
}

// Not even the directories of root's programs in $PATH, as su leaves them out.
func TestHelloNeedsNothing(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	const path = "PATH=/usr/local/bin:/usr/bin:/bin"
	h.must("env", path, "boxrun", "up", "hello")
	if got := h.client("curl", "-sS", "-m", "5", "http://192.0.2.1:8080/"); !strings.Contains(got, "hello") || !strings.Contains(got, testhost.ClientAddr) {
		t.Errorf("the client got %q, want a page with the box and who asked", got)
	}
	if got := h.must("boxrun", "exec", "hello", "--", "/usr/bin/hostname"); got != "hello\n" {
		t.Errorf("hostname says %q, want hello", got)
	}
	h.must("env", path, "boxrun", "down", "hello")
	h.same(before, stays()...)
}

func TestDownTwiceIsFine(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "down", "web")
	r := h.run("boxrun", "down", "web")
	if r.Code != 0 || r.Stdout != "" || !strings.Contains(r.Stderr, "web: is not up") {
		t.Errorf("got %v, want exit code 0 and that it is not up", r)
	}
	h.fails(3, []string{"boxrun: ", "nosuch", "boxrun: hint: "}, "boxrun", "down", "nosuch")
}

func TestRestartIsANewBox(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "exec", "web", "--", "touch", "/run/before")
	h.must("boxrun", "restart", "web")
	h.page()
	if r := h.run("boxrun", "exec", "web", "--", "test", "-e", "/run/before"); r.Code != 1 {
		t.Errorf("the old box lives: %v", r)
	}
}

func TestReplaceTakesUpAChangedProfile(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	pid := boxes(h)[0].PID
	h.must("boxrun", "up", "--replace", "web")
	if now := boxes(h)[0].PID; now != pid {
		t.Errorf("an unchanged box was replaced: pid %d, then %d", pid, now)
	}
	h.sh(`sed -i 's/"80"/"81:80"/; 1i hostname = "other"' /etc/boxrun/profiles/web.toml`)
	r := h.run("boxrun", "up", "web")
	if r.Code != 0 || !containsAll(r.Stderr, []string{", and stays as it is\n", "--replace"}) || boxes(h)[0].PID != pid {
		t.Errorf("up alone: %v, want the box left alone and a word about --replace", r)
	}
	h.tellsOfAChange()
	h.tells([]string{"boxrun: web: starts anew: its profile changed since the start; what it wrote to its root, a tmpfs, goes\n", "web: started "}, "boxrun", "up", "--replace", "web")
	h.client("curl", "-sS", "-m", "5", "http://192.0.2.1:81/")
	if now := boxes(h)[0].PID; now == pid {
		t.Errorf("a changed box was not replaced: pid %d", pid)
	}
}

// tellsOfAChange looks at all that tells of a box whose profile is another by now, and of rules that are gone.
func (h host) tellsOfAChange() {
	h.t.Helper()
	const ports = `network.ports: ["80:80/tcp"] -> ["81:80/tcp"]`
	h.tells([]string{"hostname: ", ports}, "boxrun", "diff", "web")
	h.gives("hostname\n\"web\"\n\"other\"\nchanged\nnetwork.ports\n[\"80:80/tcp\"]\n[\"81:80/tcp\"]\nchanged\n", "bash", "-c", "boxrun diff --json web | jq -r '.profile[] | .key, .old, .new, .how'")
	h.tells([]string{"web.toml (profile changed since the start, as \"boxrun diff web\" shows: "}, "boxrun", "status", "web")
	h.tells([]string{" web (profile changed)\n"}, "boxrun", "ps")
	h.sh("iptables -t nat -F BOXRUN-DN-web")
	h.tells([]string{ports, "\ndrifted:   ", "BOXRUN-DN-web"}, "boxrun", "diff", "web")
	h.sh("boxrun diff --json web | jq -e '.drift[0] | contains(\"BOXRUN-DN-web\")'")
}

// status is a row of "boxrun ps --json".
type status struct {
	Name     string   `json:"name"`
	State    string   `json:"state"`
	Address  string   `json:"address"`
	Address6 string   `json:"address6"`
	Second   string   `json:"lan_address"`
	LAN6     []string `json:"lan_address6"`
	Ports    []string `json:"ports"`
	PID      int      `json:"pid"`
	Image    string   `json:"image"`

	Restarts int `json:"restarts"`

	Health struct {
		Word string `json:"word"`
		Why  string `json:"why"`
	} `json:"health"`
}

func boxes(h host) []status {
	h.t.Helper()
	var list []status
	if out := h.must("boxrun", "ps", "--json"); json.Unmarshal([]byte(out), &list) != nil {
		h.t.Fatalf("ps --json says %s, want a list of boxes", out)
	}
	return list
}

func TestPsAndStatusAndLogs(t *testing.T) {
	h := newHost(t)
	if got := boxes(h); len(got) != 0 {
		t.Errorf("ps --json on a host without boxes: %v, want an empty list", got)
	}
	h.must("boxrun", "up", "web", "hello")
	if got := h.must("boxrun", "ps", "-q"); got != "hello\nweb\n" {
		t.Errorf("ps -q says %q, want hello and web", got)
	}
	web := boxes(h)[1]
	if web.Name != "web" || web.State != "running" || !strings.HasPrefix(web.Address, "10.22.") || web.Image != "/srv/web" {
		t.Errorf("ps --json says %+v", web)
	}
	table := h.must("boxrun", "ps")
	if !strings.HasPrefix(table, "NAME ") || !strings.Contains(table, web.Address) {
		t.Errorf("ps says\n%s", table)
	}
	if got := h.must("boxrun", "status", "web"); !containsAll(got, []string{web.Address, "running", "/srv/web"}) {
		t.Errorf("status says\n%s", got)
	}
	const inPlace = `.systemd == "none" and .failed == [] and .drift == [] and .ports == ["0.0.0.0:8080->80/tcp"] and (.exposure | length) == 1 and .allow_from == []`
	h.sh("boxrun status hello --json | jq -e '" + inPlace + "'")
	h.sh("iptables -F BOXRUN-FW-hello; boxrun status hello --json | jq -e '.drift[0] | contains(\"BOXRUN-FW-hello\")'")
	if got := h.must("boxrun", "logs", "web", "-u", "nginx.service"); !strings.Contains(got, "nginx") {
		t.Errorf("logs -u nginx.service says\n%s", got)
	}
	h.fails(3, []string{"nosuch"}, "boxrun", "status", "nosuch")
	h.fails(3, []string{"nosuch"}, "boxrun", "logs", "nosuch")
	h.must("boxrun", "down", "--all")
	if got := h.must("boxrun", "ps", "-q"); got != "" {
		t.Errorf("ps -q after down --all says %q", got)
	}
}

// Whatever the umask of who started the box, and the boxes' users their files.
func TestAnybodyMayRead(t *testing.T) {
	h := newHost(t)
	h.profile("web", h.must("cat", "/etc/boxrun/profiles/web.toml")+"[systemd]\nenvironment = { A = \"b\" }\n")
	h.sh("umask 077; boxrun up hello web; boxrun profile init mine; stat -c %a mine.toml | grep -x 600")
	for _, box := range []string{"hello", "web"} {
		h.must("boxrun", "exec", "-u", "nobody", box, "--", "sh", "-c", "ls / /etc; cat /etc/passwd /etc/hosts /etc/resolv.conf")
	}
	h.must("boxrun", "down", "web")
	if got := h.must("runuser", "-u", "alice", "--", "boxrun", "ps", "-q"); got != "hello\n" {
		t.Errorf("ps -q as alice says %q, want hello", got)
	}
	for _, argv := range []string{"profile list", "profile check web", "version", "up --dry-run web"} {
		if got := h.must("runuser", "-u", "alice", "--", "bash", "-c", "boxrun "+argv); got == "" && argv != "profile check web" {
			t.Errorf("boxrun %s says nothing to alice", argv)
		}
	}
}

func TestAPowerCutLeavesAHostThatUpPutsRight(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web", "hello")
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := h.dump()
	if got := h.must("boxrun", "ps", "-q"); got != "" {
		t.Errorf("ps -q after the power cut says %q", got)
	}
	h.must("boxrun", "up", "hello", "web")
	h.page()
	h.must("boxrun", "down", "--all")
	// What the boxes before the cut have left on the disk is collected.
	h.same(before, append(stays(), `^/root/\.apptainer/instances/`, `^/var/lib/cni/(results/|networks)`)...)
	if got := h.sh("find /var/lib/cni -type f"); got != "" {
		t.Errorf("there are left %s", got)
	}
}

// up waits for what the profile calls ready, and for no longer than it is told.
func TestNotReadyInTimeStaysUp(t *testing.T) {
	h := newHost(t)
	h.profile("slow", "image = \"/srv/web\"\n[ready]\ntcp = [4444]\ntimeout = \"2s\"\nhint = \"look here\"\n")
	start := time.Now()
	r := h.run("boxrun", "up", "slow")
	if r.Code != 5 || r.Stdout != "" || !containsAll(r.Stderr, []string{"slow", "4444", "boxrun: hint: "}) ||
		strings.Contains(r.Stderr, "look here") {
		t.Errorf("%v\nwant exit code 5, and on stderr what is missing and what to do, but not the hint of a box that is ready", r)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v to say that the box is not ready after 2s", took)
	}
	h.must("boxrun", "down", "slow")
	h.sh("sed -i 's/\"2s\"/\"50ms\"/' /etc/boxrun/profiles/slow.toml") // less than Apptainer takes to start it
	h.fails(5, []string{"slow", "boxrun: hint: the box stays up"}, "boxrun", "up", "slow")
	if got := h.must("boxrun", "ps", "-q"); got != "slow\n" {
		t.Errorf("ps -q says %q, want the box to look at", got)
	}
}

func TestEachRootIsKeptAsThePromiseSays(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.profile("kept", "image = \"/srv/web\"\n[storage]\nroot = \"overlay\"\n")
	h.profile("frozen", "image = \"/srv/web\"\n[storage]\nroot = \"read-only\"\n")
	h.must("boxrun", "up", "kept", "web")
	for _, name := range []string{"kept", "web"} {
		h.must("boxrun", "exec", name, "--", "touch", "/etc/mark")
	}
	r := h.run("boxrun", "down", "kept")
	if r.Code != 0 || r.Stdout != "/var/lib/boxrun/kept/overlay\n" {
		t.Errorf("down: %v, want the path of the overlay on stdout", r)
	}
	h.must("boxrun", "restart", "web")
	h.must("boxrun", "up", "kept")
	h.must("boxrun", "exec", "kept", "--", "test", "-e", "/etc/mark")
	if r := h.run("boxrun", "exec", "web", "--", "test", "-e", "/etc/mark"); r.Code != 1 {
		t.Errorf("a root on tmpfs outlived its box: %v", r)
	}
	h.must("boxrun", "up", "frozen")
	if r := h.run("boxrun", "exec", "frozen", "--", "touch", "/etc/mark"); r.Code == 0 {
		t.Error("a read-only root was written to")
	}
	h.must("boxrun", "down", "--all")
	h.same(before, append(stays(), `^/var/lib/boxrun`, `^/etc/boxrun/profiles`)...)
}
