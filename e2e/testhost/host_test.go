package testhost

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"boxrun/launcher/process"
)

// bootedHost boots a host for one test. Where that cannot be, the test is skipped, or fails where CI demands it.
func bootedHost(t *testing.T) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("a test host needs root")
		}
		t.Skip("a test host needs root")
	}
	h, err := New(t.Context(), func(step string) { t.Log(step) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// must runs a command on the host that has to succeed, and gives its stdout.
func must(t *testing.T, h *Host, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := h.Exec(ctx, argv...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 0 {
		t.Fatalf("%s: %v", strings.Join(argv, " "), r)
	}
	return r.Stdout
}

func dump(t *testing.T, h *Host) Dump {
	t.Helper()
	d, err := h.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestApptainerBootsABoxThatTheClientReaches(t *testing.T) {
	h := bootedHost(t)
	must(t, h, "apptainer", "instance", "start", "--boot", "--writable-tmpfs", "--bind", "/sys/fs/cgroup", "--net",
		"--network", "bridge", "--network-args", "portmap=8080:80/tcp", WebImage, "web")
	r := clientGets(t, h, "http://192.0.2.1:8080/")
	if !strings.Contains(r.Stdout, "nginx in a box") {
		t.Errorf("the client got %v, want the page of the box", r)
	}
}

// clientGets fetches url on the client, for as long as a box takes to start its nginx.
func clientGets(t *testing.T, h *Host, url string) Result {
	t.Helper()
	var r Result
	for range 50 {
		var err error
		if r, err = h.Client(t.Context(), "curl", "-sS", "-m", "2", url); err != nil {
			t.Fatal(err)
		}
		if r.Code == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return r
}

func TestDumpsOfAnIdleHostAreEqual(t *testing.T) {
	h := bootedHost(t)
	before := dump(t, h)
	time.Sleep(2 * time.Second)
	if diff := before.Diff(dump(t, h)); diff != "" {
		t.Errorf("an idle host changed:\n%s", diff)
	}
	for _, section := range []string{"links", "addresses", "routes", "sysctl", "mounts", "processes", "features of eth0"} {
		if before.Section(section) == "" {
			t.Errorf("section %q is empty in:\n%s", section, before)
		}
	}
}

func TestDumpShowsWhatChanged(t *testing.T) {
	h := bootedHost(t)
	before := dump(t, h)
	must(t, h, "iptables", "-A", "FORWARD", "-s", "10.22.0.0/16", "-j", "DROP")
	must(t, h, "iptables-legacy", "-t", "nat", "-N", "STRANGER")
	must(t, h, "sysctl", "-w", "net.ipv4.ip_forward=1")
	must(t, h, "ip", "addr", "add", "198.51.100.1/24", "dev", "eth0")
	must(t, h, "mkdir", "-p", "/run/boxrun/boxes")
	diff := before.Diff(dump(t, h))
	for _, line := range []string{
		"+-A FORWARD -s 10.22.0.0/16 -j DROP", "+:STRANGER - [0:0]", "+net.ipv4.ip_forward = 1",
		"+198.51.100.0/24 dev eth0 proto kernel scope link src 198.51.100.1 ",
		"+/run/boxrun/boxes d ",
	} {
		if !strings.Contains(diff, "\n"+line+"\n") {
			t.Errorf("no line %q in:\n%s", line, diff)
		}
	}
	if diff := before.Diff(dump(t, h), `10\.22\.0\.0`); strings.Contains(diff, "10.22.0.0") {
		t.Errorf("an excepted line is in:\n%s", diff)
	}
}

func TestEmptyBuiltInTablesAreNoDifference(t *testing.T) {
	h := bootedHost(t)
	before := dump(t, h)
	must(t, h, "iptables", "-t", "nat", "-L", "-n")
	must(t, h, "iptables-legacy", "-t", "mangle", "-L", "-n")
	if diff := before.Diff(dump(t, h)); diff != "" {
		t.Errorf("looking at tables made a difference:\n%s", diff)
	}
}

func TestRebootKeepsTheDiskAndNothingElse(t *testing.T) {
	h := bootedHost(t)
	must(t, h, "sh", "-c", "echo kept > /etc/kept; mkdir /var/lib/kept; touch /run/lost; ip link add br9 type bridge")
	bootID := must(t, h, "cat", "/proc/sys/kernel/random/boot_id")
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, h, "sh", "-c", "test -f /etc/kept && test -d /var/lib/kept && ! test -e /run/lost && ! ip link show br9")
	if now := must(t, h, "cat", "/proc/sys/kernel/random/boot_id"); now == bootID {
		t.Errorf("the boot id is still %s", now)
	}
	must(t, h, "ping", "-c", "1", "-W", "2", ClientAddr)
}

func TestShutdownStopsServicesFirst(t *testing.T) {
	h := bootedHost(t)
	must(t, h, "systemd-run", "--property=ExecStop=/bin/sh -c 'echo stopped > /etc/stopped'", "sleep", "1000")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	must(t, h, "cat", "/etc/stopped")
}

func TestExecTellsHowACommandEnded(t *testing.T) {
	h := bootedHost(t)
	for _, test := range []struct {
		name string
		argv []string
		want Result
	}{
		{"output apart", []string{"sh", "-c", "echo out; echo err >&2; exit 7"}, Result{"out\n", "err\n", 7}},
		{"killed", []string{"sh", "-c", "kill -9 $$"}, Result{"", "", 137}},
		{"in root's home", []string{"pwd"}, Result{"/root\n", "", 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, err := h.Exec(t.Context(), test.argv...); err != nil || got != test.want {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
	t.Run("out of time", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := h.Exec(ctx, "sleep", "1000"); err == nil {
			t.Error("no error")
		}
		must(t, h, "sh", "-c", "for i in $(seq 20); do pgrep -fx 'sleep 1000' || exit 0; sleep .1; done; exit 1")
	})
}

func TestTerminalIsOneOfTheHosts(t *testing.T) {
	h := bootedHost(t)
	term, err := h.Terminal(t.Context(), 30, 100, "bash", "--norc")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ keys, want string }{
		{"tty\n", "/dev/pts/0\r\n"},
		{"stty size\n", "30 100\r\n"},
		{"trap 'stty size' WINCH; echo $((40+2))\n", "42\r\n"},
	} {
		if err := term.Type(step.keys); err != nil {
			t.Fatal(err)
		}
		if err := term.Expect(step.want, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := term.Resize(31, 101); err != nil {
		t.Fatal(err)
	}
	if err := term.Type("\nexit 7\n"); err != nil {
		t.Fatal(err)
	}
	if err := term.Expect("31 101\r\n", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if r, err := term.Wait(5 * time.Second); err != nil || r.Code != 7 {
		t.Errorf("got %v, %v, want exit code 7", r, err)
	}
}

// TestNothingOfAKilledRunStays runs this test binary again, kills it with a host up, and looks at the machine.
func TestNothingOfAKilledRunStays(t *testing.T) {
	if os.Getenv("BOXRUN_TEST_BE_KILLED") != "" {
		h := bootedHost(t)
		must(t, h, "true")
		if err := os.WriteFile(os.Getenv("BOXRUN_TEST_BE_KILLED"), []byte(h.Name()), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
	}
	living := bootedHost(t)
	note := t.TempDir() + "/name"
	victim := exec.Command(os.Args[0], "-test.run=^TestNothingOfAKilledRunStays$")
	victim.Env = append(os.Environ(), "BOXRUN_TEST_BE_KILLED="+note)
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	name := awaitFile(t, note)
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	cgroups := process.CgroupMount()
	awaitEmpty(t, cgroups+"/"+name)
	if err := sweep(); err != nil {
		t.Fatal(err)
	}
	traces, _ := exec.Command("sh", "-c", "cat /proc/self/mountinfo; ls /run/netns /run/boxrun-test; find "+cgroups).Output()
	for line := range strings.Lines(string(traces)) {
		if strings.Contains(line, name) {
			t.Errorf("left of %s: %s", name, line)
		}
	}
	must(t, living, "true")
}

func awaitFile(t *testing.T, path string) string {
	t.Helper()
	for range 600 {
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
			return string(text)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s did not appear in a minute", path)
	return ""
}

// awaitEmpty waits until the kernel has ended all processes of a cgroup, which nobody else does.
func awaitEmpty(t *testing.T, cgroup string) {
	t.Helper()
	var events []byte
	for range 50 {
		var err error
		if events, err = os.ReadFile(cgroup + "/cgroup.events"); os.IsNotExist(err) {
			return // swept already by a host that another test boots
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(events), "populated 0") {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("processes of %s live 5 s after their owner: %s", cgroup, events)
}

func TestDiffNamesTheSectionOfEachLine(t *testing.T) {
	before := Dump("== links\neth0\nlo\n== routes\n== sysctl\na = 1\nb = 2\n")
	after := Dump("== links\neth0\nlo\nsbr0\n== routes\ndefault\n== features of sbr0\ntx: on\n== sysctl\na = 1\nb = 3\n")
	got := before.Diff(after, "^default")
	want := "== links\n+sbr0\n== sysctl\n-b = 2\n+b = 3\n== features of sbr0\n+tx: on\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
