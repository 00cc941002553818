package netsetup

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// namespaceVariable tells the re-run test binary which test it is run for.
const namespaceVariable = "BOXRUN_TEST_IN_NAMESPACE"

// inNamespace says whether the caller runs in network and mount namespaces of its own, as root there, with lo up and
// an empty /run. If not, it runs this one test again in such, and takes over its result. So a test begins with
//
//	if !inNamespace(t) {
//		return
//	}
//
// and needs no root. It must not be called from a subtest.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) == t.Name() {
		run(t, "mount", "-t", "tmpfs", "tmpfs", "/run") // iptables-legacy keeps a lock there
		run(t, "ip", "link", "set", "lo", "up")
		return true
	}
	if out, err := exec.Command("unshare", "-rnm", "true").CombinedOutput(); err != nil {
		cannotRun(t, "no namespaces here: unshare -rnm: %v: %s", err, bytes.TrimSpace(out))
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

// cannotRun skips the test, or fails it where CI has promised that all tests run.
func cannotRun(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// run runs a command that must succeed, and gives its output without the last newline.
func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}
