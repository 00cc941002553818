package launcher

import (
	"os"
	"testing"
)

// The test binary stands in for boxrun where that runs a part of itself in another process.
func TestMain(m *testing.M) {
	if code, inside := Inside(os.Args, os.Stderr); inside {
		os.Exit(code)
	}
	if len(os.Args) > 1 && os.Args[1] == relayWord {
		os.Exit(relay(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// cannot ends a test that this machine cannot run: where CI asks for all of them, that is a failure.
func cannot(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// wantText compares texts a person can read.
func wantText(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
