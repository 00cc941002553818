package e2e

import (
	"strings"
	"testing"
)

// hostile makes images that do not boot, and what else gets in the way.
const hostile = `
mkdir -p /srv/noinit/usr
for dir in sbin usr dev proc sys etc tmp var/tmp root home; do mkdir -p /srv/dead/$dir; done
cp /usr/local/bin/probe /srv/dead/sbin/init             # says how it is used, and ends
mkdir -p /var/lib/frozen && mount -t tmpfs -o ro tmpfs /var/lib/frozen
`

// refusal is an up that has to fail and leave the host as it was.
type refusal struct {
	name    string
	profile string
	code    int
	words   []string // on the line that says what is wrong
}

func refusals() []refusal {
	return []refusal{
		{"missing image", `image = "/srv/missing"`, 1, []string{"/srv/missing"}},
		{"no init", `image = "/srv/noinit"`, 1, []string{"/srv/noinit", "/sbin/init"}},
		{"init dies", `image = "/srv/dead"`, 4, []string{"did not start"}},
		{"not a container", `image = "/etc/passwd"`, 1, []string{"/etc/passwd"}},
		{"unwritable overlay", "image = \"/srv/web\"\n[storage]\nroot = \"overlay\"\noverlay = \"/var/lib/frozen/bad\"", 1,
			[]string{"/var/lib/frozen"}},
		{"missing bind", "image = \"/srv/web\"\n[storage]\nbinds = [\"/srv/nothing:/data\"]", 1, []string{"/srv/nothing"}},
		{"syntax error", "image = /srv/web\n", 2, []string{"bad.toml:1"}},
		{"unknown key", "image = \"/srv/web\"\n[network]\nprots = [\"80\"]", 2, []string{"bad.toml:3", "network.prots", `"ports"`}},
		{"bad port", "image = \"/srv/web\"\n[network]\nports = [\"80:70000\"]", 2, []string{"bad.toml:3", "network.ports[0]", "70000"}},
		{"overlapping subnet", "image = \"/srv/web\"\n[network]\nbridge = \"sbr1\"\nsubnet = \"192.0.2.0/24\"", 1, []string{"192.0.2.0/24", "eth0"}},
		{"subnet around a route", "image = \"/srv/web\"\n[network]\nbridge = \"sbr1\"\nsubnet = \"198.51.0.0/16\"", 1, []string{"198.51.100.0/24"}},
		{"no such interface", "image = \"/srv/web\"\n[network]\nexternal = \"eth7\"", 1, []string{"eth7"}},
		{"mtu above the interface's", "image = \"/srv/web\"\n[network]\nmtu = 9000", 1, []string{"network.mtu", "9000", "1500", "eth0"}},
		{"address outside", "image = \"/srv/web\"\n[network]\nip = \"10.99.0.2\"", 2, []string{"10.99.0.2"}},
		{"port of a process", "image = \"/srv/web\"\n[network]\nports = [\"6000:80\"]", 1, []string{"6000", "probe"}},
		{"no unit for a failure", "image = \"/srv/web\"\n[health]\non_failure = \"nosuch@.service\"", 1, []string{"health.on_failure", "nosuch@bad.service", "not-found"}},
		{"udp port of a process", "image = \"/srv/web\"\n[network]\nports = [\"5990-6010:80-100/udp\"]", 1, []string{"6001", "probe"}},
	}
}

func TestWhatIsRefusedLeavesTheHostAlone(t *testing.T) {
	h := newHost(t)
	h.sh(hostile)
	h.sh("ip route add 198.51.100.0/24 via 192.0.2.2")
	h.serve("probe", "serve", "host", "tcp/:6000", "udp/:6001")
	// What every first up leaves is not the matter here.
	h.must("boxrun", "up", "hello")
	h.must("boxrun", "down", "hello")
	tests := refusals()
	if !strings.Contains(h.must("cat", "/proc/net/protocols"), "SCTP") { // nor has a test host modules
		tests = append(tests, refusal{"no sctp", "image = \"/srv/web\"\n[network]\nports = [\"80\", \"2905-2907:2905-2907/sctp\"]", 1,
			[]string{"bad.toml: network.ports[1]: 0.0.0.0:2905-2907->2905-2907/sctp: this host's kernel has no SCTP"}})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := h.in(t)
			h.profile("bad", test.profile+"\n")
			before := h.dump()
			h.refuses(test.code, test.words, "boxrun", "up", "bad")
			h.same(before, `^/run/boxrun/locks/`)
		})
	}
	t.Run("a module kept away", func(t *testing.T) { h.in(t).keepsSCTPAway() })
}

// keepsSCTPAway has a kernel whose module of SCTP modprobe does not load, as hardening guides have it.
func (h host) keepsSCTPAway() {
	if strings.Contains(h.must("cat", "/proc/net/protocols"), "SCTP") {
		h.t.Skip("this kernel has SCTP without a module")
	}
	h.profile("bad", "image = \"/srv/web\"\n[network]\nports = [\"3868:3868/sctp\"]\n")
	h.sh(`dir=/lib/modules/$(uname -r); mkdir -p $dir; echo 'kernel/net/sctp/sctp.ko.xz: kernel/lib/libcrc32c.ko.xz' > $dir/modules.dep
		printf '# unused\ninstall sctp /bin/true\n' > /etc/modprobe.d/hardened.conf`)
	before := h.dump()
	h.refuses(1, []string{"bad.toml: network.ports[0]: 0.0.0.0:3868->3868/sctp: this host does not load the kernel's module sctp, by /etc/modprobe.d/hardened.conf:2: install sctp /bin/true"},
		"boxrun", "up", "bad")
	h.same(before, `^/run/boxrun/locks/`)
}

// refuses wants a command to end with code, saying why on one line with all of words, and then what to do about it.
func (h host) refuses(code int, words []string, argv ...string) {
	h.t.Helper()
	r := h.run(argv...)
	why, hint, _ := strings.Cut(r.Stderr, "\n")
	if r.Code != code || r.Stdout != "" || !strings.HasPrefix(why, "boxrun: ") || !containsAll(why, words) ||
		!strings.HasPrefix(hint, "boxrun: hint: ") || strings.Count(hint, "\n") != 1 {
		h.t.Errorf("%s: %v\nwant exit code %d, and on stderr two lines: one with %q, and a hint",
			strings.Join(argv, " "), r, code, words)
	}
}

func TestApptainerMissing(t *testing.T) {
	h := newHost(t)
	h.sh("mv /usr/bin/apptainer /usr/bin/apptainer.away")
	before := h.dump()
	h.refuses(1, []string{"apptainer"}, "boxrun", "up", "web")
	h.same(before, stays()...)
}

func TestRootIsNeeded(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	for _, verb := range []string{"up", "down", "restart", "status", "shell", "logs"} {
		h.refuses(1, []string{verb, "root"}, "runuser", "-u", "alice", "--", "boxrun", verb, "web")
	}
	h.refuses(125, []string{"exec", "root"}, "runuser", "-u", "alice", "--", "boxrun", "exec", "web", "--", "true")
	h.same(before, stays()...)
}

func TestUnknownNamesAndBadUsage(t *testing.T) {
	h := newHost(t)
	for _, verb := range []string{"up", "down", "restart", "status", "logs"} {
		h.refuses(3, []string{"nosuch"}, "boxrun", verb, "nosuch")
	}
	h.refuses(125, []string{"nosuch"}, "boxrun", "shell", "nosuch") // as exec: its code is the shell's
	h.refuses(2, []string{"frobnicate"}, "boxrun", "frobnicate")
	h.refuses(2, []string{"--bogus"}, "boxrun", "up", "--bogus", "web")
	h.refuses(2, []string{"usage: boxrun up PROFILE..."}, "boxrun", "up")
}

// Several profiles: all are tried, and the exit code is that of the first that failed.
func TestOneFailureDoesNotStopTheOthers(t *testing.T) {
	h := newHost(t)
	h.profile("wrong", "imag = \"/srv/web\"\n")
	r := h.run("boxrun", "up", "wrong", "nosuch", "web")
	if r.Code != 2 || !containsAll(r.Stderr, []string{"wrong.toml:1", "nosuch"}) {
		t.Errorf("got %v, want exit code 2 and both errors", r)
	}
	h.page()
}

// A profile runs as root: one that somebody else may write is none.
func TestProfilesOfOthersAreRefused(t *testing.T) {
	h := newHost(t)
	h.sh("cp /etc/boxrun/profiles/web.toml /home/alice/web.toml; chown alice /home/alice/web.toml")
	h.refuses(2, []string{"/home/alice"}, "boxrun", "up", "/home/alice/web.toml")
	h.sh("chown root /home/alice/web.toml; chmod 666 /etc/boxrun/profiles/web.toml")
	h.refuses(2, []string{"/home/alice"}, "boxrun", "up", "/home/alice/web.toml") // her directory: she may put another there
	h.refuses(2, []string{"/etc/boxrun/profiles/web.toml"}, "boxrun", "up", "web")
}

func TestTakenPortsNameWhoHasThem(t *testing.T) {
	h := newHost(t)
	h.profile("second", "image = \"/srv/web\"\n[network]\nports = [\"70-90:70-90\"]\n")
	h.must("boxrun", "up", "web")
	before := h.dump()
	h.refuses(1, []string{"80", "web"}, "boxrun", "up", "second")
	h.same(before, `^/run/boxrun/locks/`)
	h.page()

	// A program that comes later gets the port, and no connection: that is said where people look.
	h.serve("probe", "serve", "host", "tcp/:80")
	const contested = "80/tcp: probe ("
	h.tells([]string{"warning: " + contested, "gets nothing", "hint: end that program"}, "boxrun", "up", "web")
	if got := h.must("boxrun", "status", "web"); !containsAll(got, []string{"contested:", contested}) {
		t.Errorf("status says\n%s\nwant the port contested", got)
	}
	h.page()

	// Docker's container publishes 8888, and Apptainer's portmap 8889.
	h.sh("iptables-restore --noflush << 'RULES'\n" + dockerRules + "RULES")
	h.profile("third", "image = \"/srv/web\"\n[network]\nports = [\"8888:80\"]\n")
	h.refuses(1, []string{"8888"}, "boxrun", "up", "third")

	// What iptables does not show is named, and no reason to refuse the box: which rule is asked first is not known here.
	h.sh("iptables-legacy -t nat -A PREROUTING -p tcp --dport 8890 -j DNAT --to-destination 192.0.2.2:80; " +
		"nft 'add table inet site; add chain inet site pre { type nat hook prerouting priority -110; }; add rule inet site pre tcp dport 8891 redirect to :9'")
	h.profile("fourth", "image = \"/srv/web\"\n[network]\nports = [\"8890:80\", \"8891:80\"]\n")
	h.tells([]string{"port 8890/tcp goes elsewhere if it is asked first, by iptables-legacy -t nat -A PREROUTING",
		"port 8891/tcp goes elsewhere, by nft rule inet site pre tcp dport 8891 redirect to :9", "hint: "}, "boxrun", "up", "fourth")

	// In a range of udp ports some other program's client is at any moment; a server is refused, and so is a single port.
	h.sh("sysctl -qw net.ipv4.ip_local_port_range='40000 60999'")
	h.serve("probe", "serve", "host", "udp/:40050", "udp/:39990")
	h.profile("calls", "image = \"builtin:hello\"\n[network]\nports = [\"40000-40100/udp\"]\n")
	if r := h.run("boxrun", "up", "calls"); r.Code != 0 || !containsAll(r.Stderr, []string{"warning: udp ports that it publishes are in use on the host: 40050 by probe"}) {
		t.Errorf("up: %v\nwant it up, with a warning", r)
	}
	h.must("boxrun", "down", "calls")
	for _, ports := range []string{"39980-40010", "40050"} {
		h.profile("calls", "image = \"builtin:hello\"\n[network]\nports = [\""+ports+"/udp\"]\n")
		h.refuses(1, []string{"/udp", "probe"}, "boxrun", "up", "calls")
	}
}

func TestBoxesOfOneBridgeAgreeOnIt(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.profile("other", "image = \"/srv/web\"\n[network]\nsubnet = \"10.33.0.0/16\"\n")
	before := h.dump()
	h.refuses(1, []string{"sbr0", "10.33.0.0/16", "web"}, "boxrun", "up", "other")
	h.same(before, `^/run/boxrun/locks/`)
}

// A subnet of eight addresses has five for boxes.
func TestNoAddressLeft(t *testing.T) {
	h := newHost(t)
	h.profile("tiny", "image = \"builtin:hello\"\n[network]\nbridge = \"tiny0\"\nsubnet = \"10.44.0.0/29\"\n")
	h.must("boxrun", "up", "tiny@1", "tiny@2", "tiny@3", "tiny@4", "tiny@5")
	before := h.dump()
	h.refuses(1, []string{"10.44.0.0/29"}, "boxrun", "up", "tiny@6")
	h.same(before, `^/run/boxrun/locks/`)
}

// What up would refuse on this host at any time, profile check says in the same words, with the same exit code, to whoever
// asks; and what can be missing for a person alone, who may not read it, is not called missing.
func TestProfileCheckSaysWhatUpSays(t *testing.T) {
	h := newHost(t)
	h.sh("mkdir /srv/c; cd /srv/c; echo text > text.sif; mkfifo pipe.sif; install -m 600 /dev/null closed; install -m 644 /dev/null open")
	for name, c := range map[string]struct {
		code int
		text string
	}{
		"noimage":   {1, "image = \"/srv/c/nosuch.sif\"\n"},
		"textimage": {1, "image = \"/srv/c/text.sif\"\n"},
		"pipeimage": {1, "image = \"/srv/c/pipe.sif\"\n"},
		"nosecret":  {1, "image = \"/srv/web\"\nsecrets = { a = \"/srv/c/nosuch\" }\n"},
		"open":      {1, "image = \"/srv/web\"\nsecrets = { a = \"/srv/c/open\" }\n"},
		"nodep":     {2, "image = \"/srv/web\"\ndepends_on = [\"nosuch\"]\n"},
		"external":  {1, "image = \"/srv/web\"\nnetwork = { external = \"eth7\" }\n"},
		"bind":      {1, "image = \"/srv/web\"\nstorage = { binds = [\"/nosuch:/x\"] }\n"},
	} {
		h.profile(name, c.text)
		up, check := h.run("boxrun", "up", name), h.run("boxrun", "profile", "check", name)
		if up.Code != c.code || check.Code != c.code || check.Stderr != up.Stderr || !strings.Contains(up.Stderr, "boxrun: hint: ") {
			t.Errorf("%s:\nup says %v\ncheck says %v\nwant exit code %d and the same words", name, up, check, c.code)
		}
	}
	h.sh("chmod 666 /etc/boxrun/profiles/bind.toml")
	if r := h.run("boxrun", "profile", "check", "bind"); r.Code != 2 || !strings.Contains(r.Stderr, "bind.toml is writable for everybody\n") {
		t.Errorf("check of what everybody can write: %v", r)
	}
	h.profile("closed", "image = \"/srv/web\"\nsecrets = { a = \"/srv/c/closed\" }\n")
	h.must("boxrun", "profile", "check", "closed")
	h.must("runuser", "-u", "alice", "--", "boxrun", "profile", "check", "closed")

	// A dry run prints all commands, or none. A box without a profile where people look is guessed at, too.
	h.profile("app", "image = \"/srv/nosuch\"\ndepends_on = [\"hello\"]\n")
	h.fails(1, []string{"/srv/nosuch"}, "boxrun", "up", "--dry-run", "app")
	h.sh("echo 'image = \"builtin:hello\"' > /srv/c/site.toml; boxrun up /srv/c/site.toml")
	h.fails(3, []string{`no such profile: "stie", did you mean "site"?`}, "boxrun", "up", "stie")

	// Hints fit what gave them.
	h.profile("many", "image = \"builtin:hello\"\nhostname = \"m%i\"\nsecrets = { a = \"/etc/hosts\" }\n")
	h.fails(2, []string{`hint: start an instance, as in "boxrun up NAME@1"`}, "boxrun", "up", "many")
	h.fails(1, []string{"hint: name a copy for root alone: install -m 600 /etc/hosts /root/\n"}, "boxrun", "up", "many@1")
	h.fails(3, []string{`"/srv/web" is an image, and no profile`, `hint: "boxrun profile init web /srv/web" writes a profile`}, "boxrun", "up", "/srv/web")
	h.profile("many", "image = \"builtin:hello\"\nhostname = \"m%i\"\n")
	h.must("boxrun", "up", "many@1")
	if r := h.run("boxrun", "down", "many"); r.Code != 0 || r.Stderr != "boxrun: many: is not up; there are many-1\n" {
		t.Errorf("down of a profile with instances: %v", r)
	}
	h.must("boxrun", "down", "many-1")
	for _, name := range []string{"many-1", "many@1"} {
		if r := h.run("boxrun", "down", name); r.Code != 0 || r.Stderr != "boxrun: many-1: is not up\n" {
			t.Errorf("down of an instance that is down, as %s: %v", name, r)
		}
		h.fails(3, []string{`box "many-1" is not up`, `hint: "boxrun up many@1" brings it up`}, "boxrun", "trace", name)
	}

	// A group of one's own is oneself, and no longer when somebody else is in it.
	h.must("runuser", "-u", "alice", "--", "bash", "-ec", "umask 0002; mkdir ~/q; cd ~/q; echo 'image = \"builtin:hello\"' > mine.toml; boxrun profile check mine; sudo boxrun up mine; sudo boxrun down mine")
	h.must("gpasswd", "-a", "nobody", "alice")
	if r := h.run("runuser", "-u", "alice", "--", "bash", "-c", "cd ~/q; boxrun profile check mine; sudo boxrun up mine"); r.Code != 2 || strings.Count(r.Stderr, "writable for its group") != 2 {
		t.Errorf("with somebody else in the group: %v", r)
	}
}
