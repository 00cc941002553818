package nstest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// namespaceVariable tells the re-run test binary which test it is run for.
const namespaceVariable = "BOXRUN_TEST_IN_NAMESPACE"

// InNamespace says whether the caller runs in network and mount namespaces of its own, as root there, with lo up and
// an empty /run. If not, it runs this one test again in such, and takes over its result. So a test begins with
//
//	if !InNamespace(t) {
//		return
//	}
//
// and needs no root. It must not be called from a subtest.
func InNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) == t.Name() {
		Run(t, "mount", "-t", "tmpfs", "tmpfs", "/run") // iptables-legacy keeps a lock there
		Run(t, "ip", "link", "set", "lo", "up")
		return true
	}
	if out, err := exec.Command("unshare", "-rnm", "true").CombinedOutput(); err != nil {
		CannotRun(t, "no namespaces here: unshare -rnm: %v: %s", err, bytes.TrimSpace(out))
	}
	again := exec.Command("unshare", "-rnm", os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.timeout=60s")
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

// CannotRun skips the test, or fails it where CI has promised that all tests run.
func CannotRun(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Run runs a command that must succeed, and gives its output without the last newline.
func Run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// Shell runs a script that must succeed.
func Shell(t *testing.T, script string) string {
	t.Helper()
	return Run(t, "bash", "-ec", script)
}

// saveScript names the tables where the legacy backend cannot list them: the kernel shows their names to real root only.
const saveScript = `#!/bin/sh
! [ -e /proc/net/ip_tables_names ] || cat /proc/net/ip_tables_names >/dev/null 2>&1 || {
	for table in raw mangle nat filter; do %[1]s %[2]s -t $table || exit; done
	exit
}
exec %[1]s %[2]s "$@"
`

// WithBackend runs a test with one of iptables' two backends, in namespaces of its own.
func WithBackend(t *testing.T, backend string, test func(t *testing.T)) {
	t.Helper()
	multi := "/usr/sbin/xtables-" + backend + "-multi"
	if _, err := os.Stat(multi); err != nil {
		CannotRun(t, "no iptables-%s here: %v", backend, err)
	}
	dir := t.TempDir()
	for _, tool := range []string{"iptables", "iptables-restore", "ip6tables"} {
		if err := os.Symlink(multi, filepath.Join(dir, tool)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"iptables-save", "ip6tables-save"} {
		if err := os.WriteFile(filepath.Join(dir, tool), []byte(fmt.Sprintf(saveScript, multi, tool)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":/usr/sbin:/usr/bin:/sbin:/bin")
	if !InNamespace(t) {
		return
	}
	test(t)
}

// WaitFor waits until ok, for ten seconds at most.
func WaitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited for 10 s in vain")
		}
	}
}
