// Package e2e tests boxrun as people use it: a real Debian host with systemd and Apptainer (testhost), real boxes with
// systemd and nginx, a client behind the host's external interface. It needs root.
package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// patience is how long any one command may take. The longest wait is for a box that is not ready in its timeout.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := programs(); err == nil && os.Geteuid() == 0 {
		os.RemoveAll(bin)
	}
	os.Exit(code)
}

// programs builds boxrun and probe, once, and gives their directory.
var programs = sync.OnceValues(func() (string, error) {
	if os.Geteuid() != 0 {
		return "", errors.New("no root, no host to build for")
	}
	dir, err := os.MkdirTemp("", "boxrun-e2e-")
	if err != nil {
		return "", err
	}
	return dir, testhost.Build(context.Background(), dir)
})

// soak says whether the full numbers are wanted, and not the sample that fits a change.
func soak() bool { return os.Getenv("BOXRUN_SOAK") != "" }

// host is a test host of one test, with boxrun, probe and the profile web on it.
type host struct {
	*testhost.Host
	t     *testing.T
	probe string // on the machine, for the client
}

// newHost boots a host that goes when t ends. Without root t is skipped, or fails where CI demands it.
func newHost(t *testing.T) host {
	t.Helper()
	return bootHost(t, testhost.New)
}

// bootHost is newHost for a host of the kind that boot gives.
func bootHost(t *testing.T, boot func(context.Context, func(string)) (*testhost.Host, error)) host {
	t.Helper()
	if os.Geteuid() != 0 {
		cannot(t, "end-to-end tests need root")
	}
	sideBySide(t)
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	th, err := boot(t.Context(), func(step string) { t.Log(step) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := th.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := th.Install(t.Context(), bin); err != nil {
		t.Fatal(err)
	}
	return host{Host: th, t: t, probe: filepath.Join(bin, "probe")}
}

// sideBySide lets a test run beside others with hosts of their own: hosts share nothing, and most of a test is waiting.
// Subtests stay in order, as their parents need. A test calls sideBySide when it boots its first host; where only its subtests
// boot hosts, before the first of them.
func sideBySide(t *testing.T) {
	t.Helper()
	test, _, inner := strings.Cut(t.Name(), "/")
	if _, again := beside.LoadOrStore(test, true); again {
		return
	}
	t.Cleanup(func() { beside.Delete(test) })
	if inner {
		t.Fatalf("%s runs alone: it has to call sideBySide before its subtests boot hosts", test)
	}
	t.Parallel()
}

// beside holds the names of tests that run side by side.
var beside sync.Map

// cannot ends a test that this machine cannot run: where CI asks for all of them, that is a failure.
func cannot(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// in gives the same host for a subtest.
func (h host) in(t *testing.T) host {
	h.t = t
	return h
}

// run runs a command on the host, however it ends.
func (h host) run(argv ...string) testhost.Result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	r, err := h.Exec(ctx, argv...)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// must runs a command on the host that has to succeed, and gives its stdout.
func (h host) must(argv ...string) string {
	h.t.Helper()
	r := h.run(argv...)
	if r.Code != 0 {
		h.t.Fatalf("%s: %v", strings.Join(argv, " "), r)
	}
	return r.Stdout
}

// sh runs a script on the host that has to succeed, and gives its stdout.
func (h host) sh(script string) string {
	h.t.Helper()
	return h.must("bash", "-ec", script)
}

// client runs a command on the client that has to succeed, and gives its stdout.
func (h host) client(argv ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	r, err := h.Client(ctx, argv...)
	if err != nil {
		h.t.Fatal(err)
	}
	if r.Code != 0 {
		h.t.Fatalf("on the client: %s: %v", strings.Join(argv, " "), r)
	}
	return r.Stdout
}

// fails runs a command on the host that has to end with code, say nothing on stdout, and say all of words on stderr.
func (h host) fails(code int, words []string, argv ...string) {
	h.t.Helper()
	r := h.run(argv...)
	if r.Code != code || r.Stdout != "" || !containsAll(r.Stderr, words) {
		h.t.Errorf("%s: %v\nwant exit code %d, nothing on stdout, and on stderr: %q",
			strings.Join(argv, " "), r, code, words)
	}
}

func containsAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
}

// profile writes a profile to the host.
func (h host) profile(name, text string) {
	h.t.Helper()
	path := "/etc/boxrun/profiles/" + name + ".toml"
	if err := h.Write(h.t.Context(), path, 0o644, strings.NewReader(text)); err != nil {
		h.t.Fatal(err)
	}
}

func (h host) dump() testhost.Dump {
	h.t.Helper()
	h.settled()
	d, err := h.Dump(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

// settled waits for Apptainer's command lines to end: up leaves the last 200 ms of each, a sleep, to systemd.
func (h host) settled() {
	h.t.Helper()
	h.sh("for i in $(seq 60); do pgrep -f '^/[^ ]*apptainer .*instance start ' > /dev/null || exit 0; sleep 0.05; done")
}

// same wants the host as it was in before, but for lines that match a pattern of except.
func (h host) same(before testhost.Dump, except ...string) {
	h.t.Helper()
	if diff := before.Diff(h.dump(), except...); diff != "" {
		h.t.Errorf("the host changed:\n%s", diff)
	}
}

// stays are the lines that differ on a host that has had a box: sysctls that others may rely on by now, as down says.
func stays() []string {
	return []string{
		`^net\.ipv4\.ip_forward = `,
		`^net\.ipv4\.conf\.([^.]+\.forwarding|all\.accept_redirects) = `, // which it drags along
		`^net\.ipv4\.conf\.(all|default|eth0)\.rp_filter = `,
		`^fs\.inotify\.max_user_instances = `,
		// Apptainer's directories, made by the first start and empty by now.
		`^/root/\.apptainer(/instances(/app(/host(/root)?)?)?)? d `,
		`^/var/lib/cni(/results)? d `,
	}
}

// promised is how long a change may take that users are promised within a time: on a machine that many tests share, three
// times as long.
func promised(within time.Duration) time.Duration {
	if soak() {
		return within
	}
	return 3 * within
}

// eventually tries until try says "", and gives what it said last after the time is over.
func eventually(within time.Duration, try func() string) string {
	for deadline := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		said := try()
		if said == "" || time.Now().After(deadline) {
			return said
		}
	}
}
