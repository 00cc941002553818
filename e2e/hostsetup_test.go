package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"boxrun/launcher/doctor"
)

// setupFiles are what a host setup writes on a host without firewalld.
func setupFiles() []string {
	return []string{"/etc/modules-load.d/boxrun.conf", "/etc/sysctl.d/90-boxrun.conf", "/etc/udev/rules.d/90-boxrun.rules"}
}

// touched are directories that change their size, on the test host's overlay, when a file comes and goes.
const touched = `^/etc(/(sysctl\.d|modules-load\.d|udev|udev/rules\.d|firewalld|firewalld/(zones|policies)|alternatives|systemd|systemd/system(/multi-user.target.wants)?))? d `

func (h host) has(files []string) {
	h.t.Helper()
	for _, file := range files {
		if r := h.run("grep", "-c", "boxrun host reset", file); r.Code != 0 {
			h.t.Errorf("%s: %v\nwant a file that says it is boxrun's", file, r)
		}
	}
}

func TestHostSetupLasts(t *testing.T) {
	h := newHost(t)
	h.profile("other", "image = \"/srv/web\"\n[network]\nbridge = \"br-lab\"\nsubnet = \"10.23.0.0/24\"\noffload = \"off\"\n")
	h.profile("kept", "image = \"/srv/web\"\n[network]\nbridge = \"br-kept\"\nsubnet = \"10.24.0.0/24\"\noffload = \"keep\"\n")
	before := h.dump()
	script := h.must("boxrun", "host", "setup", "--dry-run")
	h.same(before)
	h.fewInstances()

	if r := h.run("boxrun", "host", "setup"); r.Code != 0 || !strings.Contains(r.Stderr, "boxrun: wrote /etc/sysctl.d/90-boxrun.conf\n") {
		t.Errorf("host setup: %v\nwant each thing it set up", r)
	}
	h.has(setupFiles())
	done := h.dump()
	if r := h.run("boxrun", "host", "setup"); r.Code != 0 || !strings.Contains(r.Stderr, "nothing to change") {
		t.Errorf("a second host setup: %v\nwant that there is nothing to change", r)
	}
	h.same(done)

	h.reboot()
	if got := h.must("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter",
		"net.ipv4.conf.eth0.rp_filter"); got != "1\n2\n2\n2\n" {
		t.Errorf("after a reboot, ip_forward and rp_filter of all, default and eth0 are %q, want 1 2 2 2", got)
	}
	h.sh("test $(sysctl -n fs.inotify.max_user_instances) = 1024")
	h.finds(h.checks(), doctor.Pass, "inotify", "of root's 1024")
	for bridge, want := range map[string]string{"sbr0": "on", "br-lab": "off", "br-kept": "on", "br0": "on"} {
		h.offloadOf(bridge, want)
	}
	h.sh("ip link del sbr0")
	h.must("boxrun", "up", "web")
	h.page()
	h.must("boxrun", "down", "web")

	const hardening = "/etc/sysctl.d/99-hardening.conf"
	h.sh("echo net.ipv4.ip_forward=0 > " + hardening)
	if r := h.run("boxrun", "host", "setup"); r.Code != 0 || !strings.Contains(r.Stderr, "warning: "+hardening+":1 sets net.ipv4.ip_forward to 0") {
		t.Errorf("host setup beside a file that takes it back: %v\nwant file and line", r)
	}
	h.finds(h.checks(), doctor.Warn, "settings at boot", hardening+":1", "net.ipv4.ip_forward")
	h.sh("rm " + hardening)

	h.must("boxrun", "host", "reset")
	h.reboot()
	h.same(before, touched, `^[0-9]+: eth0@`, `^net\.ipv4\.(route|neigh|tcp)`, `^/root/`, `^/var/lib/cni`)

	h.sh(script)
	if r := h.run("boxrun", "host", "setup"); r.Code != 0 || !strings.Contains(r.Stderr, "nothing to change") {
		t.Errorf("host setup after its dry run was typed: %v\nwant that there is nothing to change", r)
	}
}

// fewInstances has the host all but run out of inotify instances, by a limit near what is taken.
func (h host) fewInstances() {
	if r := h.run("boxrun", "up", "web"); r.Code != 0 || strings.Contains(r.Stderr, "inotify") {
		h.t.Errorf("up with instances to spare: %v", r)
	}
	h.must("boxrun", "down", "web")
	h.sh("echo 12 > /proc/sys/fs/inotify/max_user_instances")
	h.finds(h.checks(), doctor.Warn, "inotify", "of root's 12 inotify instances are taken")
	if r := h.run("boxrun", "up", "web"); r.Code != 0 || !containsAll(r.Stderr, []string{"of root's 12 inotify instances are taken", "hint: \"boxrun host setup\""}) {
		h.t.Errorf("up without instances to spare: %v", r)
	}
	took := h.sh("n=0; for p in $(cat $(jq -r .state.cgroup /run/boxrun/boxes/web.json)/{,*/,*/*/}cgroup.procs); do n=$((n + $(ls -l /proc/$p/fd | grep -c inotify || true))); done; echo $n")
	h.t.Logf("a box with nginx takes %s", took)
	h.must("boxrun", "down", "web")
}

func (h host) reboot() {
	h.t.Helper()
	if err := h.Reboot(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// offloadOf makes a bridge as somebody else does, and wants udev to have turned its offload off, or to have left it.
func (h host) offloadOf(bridge, want string) {
	h.t.Helper()
	h.must("ip", "link", "add", bridge, "type", "bridge")
	h.must("udevadm", "settle")
	if got := eventually(20*time.Second, func() string {
		features := h.sh("ethtool -k " + bridge + " | grep -x -e 'generic-segmentation-offload:.*' -e 'tx-checksumming:.*'")
		if strings.Count(features, ": "+want) == 2 {
			return ""
		}
		return features
	}); got != "" {
		h.t.Errorf("of %s ethtool says\n%s\nwant both %s", bridge, got, want)
	}
}

func TestHostSetupRefusals(t *testing.T) {
	h := newHost(t)
	h.sh("echo 'net.ipv4.ip_forward = 0' > /etc/sysctl.d/90-boxrun.conf")
	before := h.dump()
	h.fails(1, []string{"/etc/sysctl.d/90-boxrun.conf", "boxrun did not write", "hint: move it"}, "boxrun", "host", "setup")
	h.same(before)
	h.must("boxrun", "host", "reset")
	h.same(before)

	h.sh("rm /etc/sysctl.d/90-boxrun.conf; mount --bind /etc /etc; mount -o remount,bind,ro /etc")
	before = h.dump()
	h.fails(1, []string{"/etc/sysctl.d/90-boxrun.conf", "read-only", "hint: boxes work without it"}, "boxrun", "host", "setup")
	h.same(before)
	h.must("boxrun", "up", "web")
	h.page()
	h.must("boxrun", "down", "web")
	h.same(before, stays()...)
}

// lose takes a directory of boxrun's away at once. The watch of an enabled box has just started, and runs "boxrun repair", which
// locks and writes below: that would keep rm -r from removing the directory.
func lose(dir string) string { return "mv " + dir + " /run/lost; rm -r /run/lost" }

// losses are what may have happened to boxrun's records when a host is reset.
func losses() []struct{ name, script string } {
	return []struct{ name, script string }{
		{"nothing lost", "true"},
		{"all records lost", lose("/run/boxrun")},
		{"the host's lost", "rm /run/boxrun/host.json"},
		{"the bridge's lost", "rm /run/boxrun/bridges/sbr0.json"},
		{"the boxes' lost", lose("/run/boxrun/boxes")},
		{"a box's cut short", "truncate -s 40 /run/boxrun/boxes/web.json"},
		{"the host's cut short", "truncate -s 40 /run/boxrun/host.json"},
		{"the backend of iptables switched", "update-alternatives --set iptables /usr/sbin/iptables-legacy"},
		{"a jump without its comment", "iptables -A FORWARD -j BOXRUN-FWD; iptables -A INPUT -m comment --comment boxrun:odd -j ACCEPT"},
	}
}

func TestHostReset(t *testing.T) {
	h := newHost(t)
	h.sh("iptables-restore << 'RULES'\n" + dockerRules + "RULES")
	h.sh("iptables -t raw -L > /dev/null; iptables -t mangle -L > /dev/null")
	h.sh("mkdir -p /usr/local/lib/systemd/system/boxrun@.service.d\n" + // a reset is to wait for what ends a box's service
		"printf '[Service]\nExecStopPost=sleep 0.5\n' > /usr/local/lib/systemd/system/boxrun@.service.d/slow.conf")
	before := h.dump()
	for _, loss := range losses() {
		t.Run(loss.name, func(t *testing.T) {
			h := h.in(t)
			h.must("boxrun", "host", "setup")
			h.must("boxrun", "up", "web", "hello")
			h.must("boxrun", "enable", "web")
			h.sh(loss.script)
			h.fails(1, []string{"boxes are up", "web", "--force"}, "boxrun", "host", "reset")
			h.must("boxrun", "host", "reset", "--force")
			if left := h.sh("systemctl list-units --all --plain --no-legend 'boxrun*.service'"); left != "" {
				t.Errorf("services after host reset: %swant none", left)
			}
			h.sh("update-alternatives --set iptables /usr/sbin/iptables-nft")
			h.same(before, slices.Concat(stays(), []string{touched})...)
			if got := h.must("boxrun", "host", "show", "--json"); got != "[]\n" {
				t.Errorf("host show --json after host reset: %s, want []", got)
			}
			if got := h.must("boxrun", "host", "reset", "--dry-run"); got != "" {
				t.Errorf("host reset --dry-run after host reset: %s, want nothing", got)
			}
		})
	}
}

// What the dry run of a reset prints does what the reset does.
func TestHostResetAsTyped(t *testing.T) {
	h := newHost(t)
	h.sh(`sed -i 's/^\[network\]/&\nsubnet6 = "auto"/' /etc/boxrun/profiles/web.toml`)
	before := h.dump()
	for name, loss := range map[string]string{
		"records there": "iptables -t nat -N BOXRUN-DN-gone; ip link add gone type bridge; ip link set gone alias boxrun:gone",
		"records lost":  lose("/run/boxrun"),
	} {
		h.must("boxrun", "host", "setup")
		h.must("boxrun", "up", "web")
		h.must("boxrun", "enable", "web")
		h.sh(loss)
		script := h.must("boxrun", "host", "reset", "--dry-run")
		h.sh(script)
		if diff := before.Diff(h.dump(), slices.Concat(stays(), []string{touched, `^/root/.apptainer/instances/`})...); diff != "" {
			t.Errorf("%s: the host changed:\n%s\nby\n%s", name, diff, script)
		}
	}
}

// holding is one element of what host show --json prints.
type holding struct {
	Owner, What  string
	Rules, Drift []string
}

func holdings(h host) []holding {
	h.t.Helper()
	var held []holding
	if out := h.must("boxrun", "host", "show", "--json"); json.Unmarshal([]byte(out), &held) != nil {
		h.t.Fatalf("host show --json says %s, want a list", out)
	}
	return held
}

func TestHostShow(t *testing.T) {
	h := newHost(t)
	if r := h.run("boxrun", "host", "show"); r.Code != 0 || !strings.Contains(r.Stderr, "holds nothing") {
		t.Errorf("host show on a host without boxrun: %v\nwant that it holds nothing", r)
	}
	h.sh("sed -i '/^\\[network\\]/a offload = \"off\"' /etc/boxrun/profiles/web.toml") // for a file of udev
	h.must("boxrun", "host", "setup")
	h.must("boxrun", "up", "web")
	var rules []string
	for _, held := range holdings(h) {
		if len(held.Drift) > 0 {
			t.Errorf("right after up, drifted: %+v", held)
		}
		rules = append(rules, held.Rules...)
	}
	want := strings.Split(strings.TrimSpace(h.sh("for i in iptables ip6tables; do for t in raw mangle filter nat; do $i -t $t -S | grep -e BOXRUN | sed \"s/^/$i -t $t /\"; done; done")), "\n")
	if len(rules) != len(want) {
		t.Errorf("host show tells of the rules\n%s\nwant\n%s", strings.Join(rules, "\n"), strings.Join(want, "\n"))
	}
	files := strings.Fields(h.sh("find /run/boxrun -type f -not -path '*/boxes/web/*' -not -path '*/locks/*'"))
	for _, file := range append(files, setupFiles()...) {
		if !slices.ContainsFunc(holdings(h), func(held holding) bool { return held.What == file }) {
			t.Errorf("host show does not tell of %s", file)
		}
	}
	h.sh("echo >> /etc/sysctl.d/90-boxrun.conf; iptables -t nat -F BOXRUN-DN-web; ip link set sbr0 down; iptables -N BOXRUN-FW-old")
	got := h.must("boxrun", "host", "show")
	for _, line := range []string{"/etc/sysctl.d/90-boxrun.conf has been changed", "BOXRUN-DN-web lacks the rule", "bridge sbr0 is down", "BOXRUN-FW-old"} {
		if !strings.Contains(got, line) {
			t.Errorf("host show says\n%s\nwant %q in it", got, line)
		}
	}
}
