package hello

import (
	"os"
	"testing"
)

// TestMain plays process 1 of a box where the tests start this binary as such, as boxrun's main does.
func TestMain(m *testing.M) {
	if os.Args[0] == Path && os.Getpid() == 1 {
		os.Exit(Init(os.Stderr))
	}
	os.Exit(m.Run())
}
