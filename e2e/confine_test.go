package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// openWays tries the 20 ways of e2e/cmd/escape from a box that is up, by exec and as a unit of the box, and gives the
// ways that are open.
func (h host) openWays(box string) []string {
	h.t.Helper()
	if err := h.Copy(h.t.Context(), filepath.Join(filepath.Dir(h.probe), "escape"), "/usr/local/bin/escape"); err != nil {
		h.t.Fatal(err)
	}
	h.sh(`systemctl is-active -q neighbour || systemd-run -q --unit=neighbour sleep 600
		[ -e /run/segment ] || ipcmk -M 4096 > /run/segment
		boxrun cp /usr/local/bin/escape ` + box + `:/usr/local/bin/escape`)
	key := strings.TrimSpace(h.sh("awk 'NR == 2 { print $1 }' /proc/sysvipc/shm"))
	command := []string{"escape", "system.slice/neighbour.service", key}
	ways := slices.Concat([]string{"boxrun", "exec", box, "--"}, command)
	byExec := h.must(ways...)
	unit := slices.Concat([]string{"boxrun", "exec", box, "--", "systemd-run", "-q", "--pipe", "--wait"}, command)
	if asUnit := h.must(unit...); openOf(asUnit) != openOf(byExec) {
		h.t.Errorf("%s: a command from outside finds\n%s\na unit of the box\n%s", box, byExec, asUnit)
	}
	if lines := strings.Count(byExec, "\n"); lines != 20 {
		h.t.Errorf("%s: %d ways were tried, want 20:\n%s", box, lines, byExec)
	}
	h.t.Logf("%s:\n%s", box, byExec)
	return strings.Fields(openOf(byExec))
}

// openOf returns the names of the open ways in what escape prints.
func openOf(printed string) string {
	var open []string
	for line := range strings.Lines(printed) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "open "); ok {
			open = append(open, name)
		}
	}
	return strings.Join(open, " ")
}

// secured returns a profile of the web image at a level of [security].
func secured(level string, more ...string) string {
	return "image = \"/srv/web\"\n[security]\nlevel = \"" + level + "\"\n" + strings.Join(more, "\n") + "\n"
}

// What root in a box can do to the host, level by level: nginx runs at each of them, and no unit fails.
func TestWaysFromABoxToTheHost(t *testing.T) {
	h := newHost(t)
	for level, want := range map[string]string{
		"default": "new-sysfs proc-sys-again priority",
		"strict":  "",
		"host": "clock sysctl sys new-sysfs proc-sys-again disk kmsg cgroups-seen cgroups-written kernel-log handle bpf " +
			"perf sysv priority",
	} {
		h.profile(level, secured(level))
		h.must("boxrun", "up", level)
		if open := h.openWays(level); !slices.Equal(open, strings.Fields(want)) {
			t.Errorf("%s: open are %q, want %q", level, open, strings.Fields(want))
		}
		state := h.must("boxrun", "exec", level, "--", "systemctl", "is-system-running")
		if failed := h.must("boxrun", "exec", level, "--", "systemctl", "--failed", "-q"); failed != "" || state != "running\n" {
			t.Errorf("%s: the box is %q, with failed units:\n%s", level, state, failed)
		}
		if got := h.must("boxrun", "status", level); !strings.Contains(got, "security:    "+level+"\n") {
			t.Errorf("%s: status says\n%s", level, got)
		}
		h.sh("boxrun status --json " + level + " | jq -e '.security.level == \"" + level + "\"'")
		h.sh("curl -sS -m 5 http://$(jq -r .state.addr /run/boxrun/boxes/" + level + ".json)/ | grep -q 'nginx in a box'")
		h.must("boxrun", "down", level)
	}
}

// held are a process's capabilities and filters of system calls. Neither level needs no_new_privs, which would break su.
const held = "'^(Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp:)'"

// Whoever enters a box has what the box's init has, no more and no less, whichever verb it is, in the box's own namespaces.
func TestEnteredAtTheLevelOfTheBox(t *testing.T) {
	h := newHost(t)
	for level, filters := range map[string]int{"default": 2, "strict": 2, "host": 0} {
		h.profile("level", secured(level, "[hooks]", `post_up = [["sh", "-c", "cat /proc/self/status > /var/hook"]]`))
		h.must("boxrun", "up", "level")
		init := h.must("boxrun", "exec", "level", "--", "grep", "-E", strings.Trim(held, "'"), "/proc/1/status")
		if want := fmt.Sprintf("NoNewPrivs:\t0\nSeccomp:\t%d\n", filters); !strings.HasSuffix(init, want) {
			t.Errorf("%s: the init has\n%swant at its end\n%s", level, init, want)
		}
		for way, script := range map[string]string{
			"exec":   "boxrun exec level -- cat /proc/self/status",
			"shell":  "echo 'cat /proc/self/status' | boxrun shell level",
			"cp":     "boxrun cp level:/proc/thread-self/status /root/entered; cat /root/entered",
			"a hook": "boxrun exec level -- cat /var/hook",
		} {
			if got := h.sh("(" + script + ") | grep -E " + held); got != init {
				t.Errorf("%s: %s has\n%swant what init has:\n%s", level, way, got, init)
			}
		}
		h.entersNamespaces("level", level != "host")
		h.must("boxrun", "down", "level")
	}
}

// entersNamespaces wants a command to be in all namespaces of the box's init, of which most are not the host's. Those of
// IPC and cgroups are the box's own where the box is confined.
func (h host) entersNamespaces(box string, confined bool) {
	h.t.Helper()
	const list = "cd /proc/%s/ns && for n in cgroup ipc mnt net pid uts; do readlink $n; done"
	of := func(pid string) []string {
		return strings.Fields(h.must("boxrun", "exec", box, "--", "sh", "-c", fmt.Sprintf(list, pid)))
	}
	inside, init, own := of("self"), of("1"), strings.Fields(h.sh(fmt.Sprintf(list, "self")))
	if !slices.Equal(inside, init) {
		h.t.Errorf("%s: a command is in %q, the init in %q", box, inside, init)
	}
	for _, namespace := range own {
		shared := !confined && (strings.HasPrefix(namespace, "cgroup:") || strings.HasPrefix(namespace, "ipc:"))
		if slices.Contains(init, namespace) != shared {
			h.t.Errorf("%s: the box shares the host's %s: %v, want %v", box, namespace, !shared, shared)
		}
	}
}

// What is mounted in a box later is seen by a service that runs in a sandbox, as on a machine: mounts go down to the
// namespaces of services.
func TestLaterMountsReachSandboxes(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "exec", "web", "--", "systemd-run", "-q", "--unit=sandbox", "-p", "PrivateTmp=yes", "sleep", "infinity")
	h.must("boxrun", "exec", "web", "--", "sh", "-c", "mount -t tmpfs tmpfs /mnt; echo later > /mnt/file")
	const seen = `pid=$(systemctl show -P MainPID sandbox); [ "$(readlink /proc/$pid/ns/mnt)" != "$(readlink /proc/1/ns/mnt)" ]; cat /proc/$pid/root/mnt/file`
	h.gives("later\n", "boxrun", "exec", "web", "--", "sh", "-ec", seen)
}

// sandboxed are options of units, a command for a unit with the options, and what the command has to print. All of them
// are in force at the level default; at the level strict systemd passes over some, and those say so here.
var sandboxed = []struct{ options, command, want, strict string }{
	{"PrivateTmp=yes", "cat /tmp/mark 2>/dev/null || true", "", "mark\n"},
	{"ProtectSystem=strict", "touch /etc/x && echo written || true", "", "written\n"},
	{"ProtectHome=yes", "cat /root/mark 2>/dev/null || true", "", "mark\n"},
	{"InaccessiblePaths=/var/mark", "cat /var/mark 2>/dev/null || true", "", "mark\n"},
	{"PrivateDevices=yes", "ls /dev/null", "/dev/null\n", "/dev/null\n"},
	{"ProtectKernelTunables=yes", "[ -w /proc/sys/net/ipv4/ip_forward ] && echo w || true", "", "w\n"},
	{"NoNewPrivileges=yes", "grep -o 'NoNewPrivs.*' /proc/self/status | tr -d '\\t'", "NoNewPrivs:1\n", "NoNewPrivs:1\n"},
	{"SystemCallFilter=~mkdir", "mkdir /tmp/forbidden 2>/dev/null && echo made || true", "", ""},
	{"RestrictAddressFamilies=AF_UNIX", "nc -z -w1 127.0.0.1 80 2>/dev/null && echo reached || true", "", ""},
	{"CapabilityBoundingSet=CAP_CHOWN", "grep -o 'CapBnd.*' /proc/self/status | tr -d '\\t'", "CapBnd:0000000000000001\n",
		"CapBnd:0000000000000001\n"},
	{"SetCredential=a:hush", "cat $CREDENTIALS_DIRECTORY/a", "hush", "hush"},
	{"LoadCredential=a:/var/mark", "cat $CREDENTIALS_DIRECTORY/a", "mark\n", "mark\n"},
	{"RuntimeDirectory=mine", "ls -d $RUNTIME_DIRECTORY", "/run/mine\n", "/run/mine\n"},
	{"TemporaryFileSystem=/srv", "ls /srv; findmnt -n -o FSTYPE /srv", "tmpfs\n", "fails"},
	{"BindReadOnlyPaths=/etc:/srv", "cat /srv/hostname >/dev/null && echo bound", "bound\n", "fails"},
	{"DynamicUser=yes StateDirectory=state", "id -un; touch $STATE_DIRECTORY/x && echo kept", "kept\n", "fails"},
	{"PrivateNetwork=yes", "ip -o link | wc -l", "1\n", "2\n"},
	{"Delegate=yes", "cat /proc/self/cgroup | grep -c '0::/system.slice/run-'", "1\n", "1\n"},
	{"MemoryMax=64M TasksMax=20 CPUWeight=50", "echo runs", "runs\n", "runs\n"},
}

// Units of a box keep their sandboxes.
func TestUnitsKeepTheirSandboxes(t *testing.T) {
	h := newHost(t)
	h.profile("strict", secured("strict"))
	for _, box := range []string{"web", "strict"} {
		h.must("boxrun", "up", box)
		h.must("boxrun", "exec", box, "--", "sh", "-c", "for d in tmp root var; do echo mark > /$d/mark; done")
		for _, s := range sandboxed {
			argv := []string{"boxrun", "exec", box, "--", "systemd-run", "-q", "--pipe", "--wait"}
			for _, option := range strings.Fields(s.options) {
				argv = append(argv, "-p", option)
			}
			r := h.run(append(argv, "sh", "-c", s.command)...)
			want := s.want
			if box == "strict" {
				want = s.strict
			}
			if want == "fails" && r.Code != 0 {
				continue
			}
			if r.Code != 0 || !strings.HasSuffix(r.Stdout, want) || want == "" && r.Stdout != "" {
				t.Errorf("%s: %s: %v\nwant %q", box, s.options, r, want)
			}
		}
	}
}

// Devices and capabilities are what the profile adds to the level, and no more; a bind of a device counts as well.
func TestDevicesAndCapabilitiesToAdd(t *testing.T) {
	h := newHost(t)
	const look = "for d in /dev/fuse /dev/net/tun; do [ -e $d ] && exec 3<>$d && echo $d; done; " +
		"mknod /dev/again c 10 229 && (: <> /dev/again) 2>/dev/null && echo again; grep CapBnd /proc/self/status | cut -f2"
	h.profile("added", secured("default", `capabilities = ["CAP_IPC_LOCK"]`, `devices = ["/dev/fuse"]`, "[storage]",
		`binds = ["/dev/net/tun:/dev/net/tun"]`))
	h.must("boxrun", "up", "added", "web")
	bounding := func(box string) string {
		return strings.Fields(h.must("boxrun", "exec", box, "--", "grep", "CapBnd", "/proc/1/status"))[1]
	}
	if got, want := h.run("boxrun", "exec", "added", "--", "sh", "-c", look).Stdout, "/dev/fuse\n/dev/net/tun\nagain\n"+bounding("added")+"\n"; got != want {
		t.Errorf("with devices: got %q, want %q", got, want)
	}
	if got, want := h.run("boxrun", "exec", "web", "--", "sh", "-c", look).Stdout, bounding("web")+"\n"; got != want {
		t.Errorf("without: got %q, want %q", got, want)
	}
	const lock = 1 << 14
	h.sh(fmt.Sprintf("[ $((0x%s & %d)) != 0 ] && [ $((0x%s & %d)) = 0 ]", bounding("added"), lock, bounding("web"), lock))
	if got := h.must("boxrun", "status", "added"); !strings.Contains(got, "security:    default +CAP_IPC_LOCK +/dev/fuse\n") {
		t.Errorf("status says\n%s", got)
	}
	h.profile("missing", secured("default", `devices = ["/dev/nosuch", "/dev/pts/../null"]`))
	h.fails(1, []string{"missing.toml: security.devices: /dev/nosuch: no such file or directory", "boxrun: hint: "}, "boxrun", "up", "missing")
}

// A step of the confinement that fails is a start that fails, in a line, and nothing is left of the box.
func TestNoBoxRunsHalfConfined(t *testing.T) {
	h := newHost(t)
	h.profile("half", secured("default", "[apptainer]", `args = ["--no-mount=sys"]`))
	h.must("boxrun", "up", "web") // what boxes leave on a host is there before
	h.must("boxrun", "down", "web")
	before := h.dump()
	h.fails(4, []string{"boxrun: error: half: the box did not start: confining the box: ", "/sys"}, "boxrun", "up", "half")
	h.same(before)
	h.profile("half", secured("host", "[apptainer]", `args = ["--no-mount=sys"]`))
	h.must("boxrun", "up", "half")
}

// The image's init is found below boxrun whatever kind of file the init is, and becomes process 1 with its own name.
func TestConfinedInits(t *testing.T) {
	h := newHost(t)
	const script = "#!/bin/bash\ntrap 'exit 0' 37\necho \"$0 $$ ${BOXRUN_CONFINE:-unset} ${GOGC:-unset} ${GOMAXPROCS:-unset}\" > /said\nwhile :; do sleep 1 & wait $!; done\n"
	h.sh("cp -a /srv/web /srv/inits; rm /srv/inits/sbin/init")
	for kind, place := range map[string]string{
		"plain":    "mv /root/init /srv/inits/sbin/init",
		"absolute": "mv /root/init /srv/inits/usr/lib/first; ln -s /usr/lib/first /srv/inits/sbin/init",
		"relative": "mv /root/init /srv/inits/usr/lib/first; ln -s ../lib/first /srv/inits/sbin/init",
		"chain":    "mv /root/init /srv/inits/usr/lib/first; ln -s first /srv/inits/usr/lib/link; ln -s /lib/link /srv/inits/sbin/init",
	} {
		if err := h.Write(t.Context(), "/root/init", 0o755, strings.NewReader(script)); err != nil {
			t.Fatal(err)
		}
		h.sh(place)
		h.profile("init", "image = \"/srv/inits\"\n[systemd]\nstop_timeout = \"2s\"\n[ready]\ntimeout = \"5s\"\n")
		if r := h.run("boxrun", "up", "--no-wait", "init"); r.Code != 0 {
			t.Errorf("%s: up: %v", kind, r)
		}
		if got, want := h.must("boxrun", "exec", "init", "--", "cat", "/said"), "/sbin/init 1 unset unset unset\n"; got != want {
			t.Errorf("%s: the init says %q, want %q", kind, got, want)
		}
		h.run("boxrun", "down", "init")
		h.sh("rm -f /srv/inits/sbin/init /srv/inits/usr/lib/first /srv/inits/usr/lib/link")
	}
}

// An image in a file, whose init cannot be looked for before the start, is told to lack an init, and the kept root does
// not get an empty one.
func TestAConfinedImageWithoutInit(t *testing.T) {
	h := newHost(t)
	h.sh("cp -a /srv/web /srv/noinit; rm /srv/noinit/sbin/init; mksquashfs /srv/noinit /srv/noinit.sif -quiet -no-progress > /dev/null")
	h.profile("noinit", "image = \"/srv/noinit.sif\"\n[storage]\nroot = \"overlay\"\noverlay = \"/var/lib/kept\"\n")
	h.fails(4, []string{"the image has no /sbin/init", "boxrun: hint: "}, "boxrun", "up", "noinit")
	h.sh("! find /var/lib/kept -path '*upper*sbin/init' | grep .")
}

// doctor proves the confinement by trying, and names a way that somebody in the box has opened.
func TestDoctorTriesTheConfinement(t *testing.T) {
	h := newHost(t)
	h.profile("strict", secured("strict"))
	h.profile("open", secured("host"))
	h.must("boxrun", "up", "web", "strict", "open")
	found := func(box string) string {
		return h.sh("boxrun doctor --json " + box + " | jq -r '.[] | select(.name == \"confinement\") | .status + \": \" + .found'")
	}
	for box, want := range map[string]string{
		"web": "PASS: as of the level default: ", "strict": "PASS: as of the level strict: ", "open": "PASS: none: ",
	} {
		if got := found(box); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", box, got, want)
		}
	}
	nodes := h.must("boxrun", "exec", "web", "--", "ls", "/dev")
	h.must("boxrun", "exec", "web", "--", "mount", "-o", "remount,bind,rw", "/proc/sys")
	if got, want := found("web"), "FAIL: the level default closes what is open: /proc/sys\n"; got != want {
		t.Errorf("with /proc/sys opened: got %q, want %q", got, want)
	}
	if after := h.must("boxrun", "exec", "web", "--", "ls", "/dev"); after != nodes {
		t.Errorf("the box's /dev was\n%s and is\n%s", nodes, after)
	}
}

// A bind that hides boxrun where the image's init is leaves a box with all its capabilities: there is no such box.
func TestNoBoxIsLoose(t *testing.T) {
	h := newHost(t)
	h.sh(`cp -a /srv/web /srv/odd; rm /srv/odd/sbin/init; mkdir /srv/odd/opt/first; ln -s /opt/first/run /srv/odd/sbin/init
		printf '#!/bin/sh\nexec /lib/systemd/systemd "$@"\n' | tee /srv/odd/opt/first/run > /srv/first; chmod 755 /srv/first /srv/odd/opt/first/run`)
	h.profile("odd", "image = \"/srv/odd\"\n[storage]\nbinds = [\"/srv/first:/opt/first/run\"]\n")
	for _, flag := range []string{"--no-wait", "--wait-timeout=20s"} {
		h.fails(1, []string{"more capabilities than [security] says", "hint: "}, "boxrun", "up", flag, "odd")
		if got := h.must("boxrun", "ps", "-q"); got != "" {
			t.Errorf("a loose box is up: %s", got)
		}
	}
	h.profile("odd", "image = \"/srv/odd\"\n")
	h.must("boxrun", "up", "odd")
}
