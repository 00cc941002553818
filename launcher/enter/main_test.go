package enter

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
