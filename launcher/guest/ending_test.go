package guest

import (
	"testing"

	"boxrun/launcher/processtest"
	"boxrun/launcher/testkit"
)

// A box whose systemd became systemd-shutdown was powered off, and one that was killed was not.
func TestWatchEnding(t *testing.T) {
	t.Parallel()
	off := WatchEnding(t.Context(), initNamed(t, "systemd-shutdown", ":"))
	testkit.Eventually(t, "the end is seen to be in good order", off.PoweredOff)
	init := processtest.Shell(t, cleanInit)
	killed := WatchEnding(t.Context(), init)
	if err := init.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := init.Wait(t.Context()); err != nil || killed.PoweredOff() {
		t.Errorf("%v; a killed init was powered off: %v", err, killed.PoweredOff())
	}
}
