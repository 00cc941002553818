// Package nstest runs tests in network namespaces of their own, as root there: a test gets a stand-in for a host, with
// either backend of iptables. Only tests import the package. Begin with [InNamespace].
package nstest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// namespaceVariable names the test to run again for the test binary in namespaces.
const namespaceVariable = "BOXRUN_TEST_IN_NAMESPACE"

// Company says whether other tests may run at the same time.
type Company int

// Other tests may run at the same time, or may not.
const (
	SideBySide Company = iota
	Alone              // for tests of speed
)

// parallel is how many tests run side by side: most tests wait, for packets that do not come.
const parallel = "8"

// Main runs the tests of a package, eight side by side unless the flag -parallel says otherwise, and returns the exit
// code.
func Main(m *testing.M) (code int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", parallel); err != nil {
			panic(err) // there is no such flag any more
		}
	}
	return m.Run()
}

// InNamespace reports whether the caller runs in network and mount namespaces of its own, as root there, with lo up
// and an empty /run. If not, InNamespace runs the test again in such namespaces, beside other tests, and takes over
// the result. So a test begins with
//
//	if !InNamespace(t) {
//		return
//	}
func InNamespace(t *testing.T) bool {
	t.Helper()
	return inNamespace(t, SideBySide)
}

func inNamespace(t *testing.T, company Company) bool {
	t.Helper()
	if inside(t) {
		Run(t, "mount", "-t", "tmpfs", "tmpfs", "/run") // iptables-legacy keeps a lock there
		Run(t, "ip", "link", "set", "lo", "up")
		return true
	}
	if os.Getenv("BOXRUN_EMULATED") != "" { // by "make arch"
		t.Skip("the test starts its binary again, which takes no emulator along")
	}
	if company == SideBySide {
		t.Parallel()
	}
	if out, err := exec.Command("unshare", "-rnm", "true").CombinedOutput(); err != nil {
		CannotRun(t, "no namespaces here: unshare -rnm: %v: %s", err, bytes.TrimSpace(out))
	}
	this := "-test.run=^" + regexp.QuoteMeta(t.Name()) + "$"
	again := exec.Command("unshare", "-rnm", os.Args[0], this, "-test.v", "-test.timeout=600s")
	again.Env = append(os.Environ(), namespaceVariable+"="+t.Name())
	out, err := again.CombinedOutput()
	t.Logf("in a namespace:\n%s", out)
	switch {
	case err != nil:
		t.Errorf("in a namespace: %v", err)
	case bytes.Contains(out, []byte("--- SKIP: "+t.Name()+" ")):
		t.Skip("skipped in the namespace")
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")):
		t.Error("did not run in the namespace")
	}
	return false
}

// inside reports whether the test is the test run again.
func inside(t *testing.T) bool { return os.Getenv(namespaceVariable) == t.Name() }

// CannotRun skips the test, or fails the test where CI has promised to run all tests.
func CannotRun(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Run runs a command and returns its output without the last newline. A command that fails fails the test.
func Run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// Shell runs a script of bash and returns its output without the last newline. A script that fails fails the test.
func Shell(t *testing.T, script string) string {
	t.Helper()
	return Run(t, "bash", "-ec", script)
}

// Root makes a directory with files, to stand for the root directory of a host, and returns its path.
func Root(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// saveScript names the tables where the legacy backend cannot list them: the kernel shows their names to real root
// only.
const saveScript = `#!/bin/sh
! [ -e /proc/net/ip_tables_names ] || cat /proc/net/ip_tables_names >/dev/null 2>&1 || {
	for table in raw mangle nat filter; do %[1]s %[2]s -t $table || exit; done
	exit
}
exec %[1]s %[2]s "$@"
`

// WithBackend runs a test with a backend of iptables, nft or legacy, in namespaces of its own.
func WithBackend(t *testing.T, backend string, company Company, test func(t *testing.T)) {
	t.Helper()
	multi := "/usr/sbin/xtables-" + backend + "-multi"
	if _, err := os.Stat(multi); err != nil {
		CannotRun(t, "no iptables-%s here: %v", backend, err)
	}
	if inside(t) {
		t.Setenv("PATH", toolsOf(t, multi)+":/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if inNamespace(t, company) {
		test(t)
	}
}

// toolsOf returns a directory with the programs of a backend of iptables.
func toolsOf(t *testing.T, multi string) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range []string{"iptables", "iptables-restore", "ip6tables", "ip6tables-restore"} {
		if err := os.Symlink(multi, filepath.Join(dir, tool)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"iptables-save", "ip6tables-save"} {
		script := fmt.Sprintf(saveScript, multi, tool)
		if err := os.WriteFile(filepath.Join(dir, tool), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// WaitFor waits until ok returns true, for a minute at most.
func WaitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited for a minute in vain")
		}
	}
}

// Sleeper starts a process that lives until the test ends or stop is called.
func Sleeper(t *testing.T, argv ...string) (pid int, stop func()) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if len(argv) > 0 {
		cmd = exec.Command(argv[0], argv[1:]...)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	return cmd.Process.Pid, stop
}

// Lease is the content of the lease of an address for a process, as host-local writes it.
func Lease(pid int) string { return fmt.Sprintf("%d\r\neth0", pid) }
