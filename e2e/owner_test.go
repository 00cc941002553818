package e2e

import (
	"strings"
	"testing"
)

// Two machines see one overlay, on a file system that they share. The mark on the overlay tells the second machine who
// writes there, whatever ended the box: a stop, a crash, a power loss.
func TestTwoMachinesNeverWriteOneOverlay(t *testing.T) {
	one := newHost(t)
	two := newHost(t)
	if err := one.Share(two.Host, "/var/shared"); err != nil {
		t.Fatal(err)
	}
	two.sh("hostname node2")
	profile := "image = \"builtin:hello\"\n[network]\nmode = \"none\"\n[storage]\nroot = \"overlay\"\noverlay = \"/var/shared/web\"\n"
	one.profile("first", profile)
	two.profile("second", profile)
	oneBefore, twoBefore := one.dump(), two.dump()

	one.must("boxrun", "up", "first")
	refused := []string{`storage.overlay: "/var/shared/web" is the overlay of box "first" on the machine host since`}
	for _, verb := range [][]string{{"boxrun", "up", "second"}, {"boxrun", "up", "--dry-run", "second"}} {
		two.refuses(1, refused, verb...)
	}
	two.fails(1, refused, "boxrun", "profile", "check", "second")
	one.must("boxrun", "down", "first")
	one.sh("test ! -e /var/shared/web/boxrun-owner.json")
	two.must("boxrun", "up", "second")
	one.refuses(1, []string{`"second" on the machine node2`}, "boxrun", "up", "first")

	// A machine may get another id and name while a box is up, and stays the same machine.
	two.sh("cp /etc/machine-id /run; echo 0123456789abcdef0123456789abcdef > /etc/machine-id; hostname node3")
	if r := two.run("boxrun", "doctor", "second"); strings.Contains(r.Stdout, "node2") {
		t.Errorf("doctor: %v, want no word of the overlay", r)
	}
	two.must("boxrun", "restart", "second")
	one.refuses(1, []string{`"second" on the machine node3`}, "boxrun", "up", "first")
	two.sh("cat /run/machine-id > /etc/machine-id; rm /run/machine-id; hostname node2; boxrun down second; boxrun up second")

	// The mark of a killed box is its machine's own, which puts things right with the next command.
	two.sh("pid=$(boxrun ps --json | jq '.[0].pid'); kill -9 $pid; while kill -0 $pid 2> /dev/null; do sleep 0.01; done")
	one.refuses(1, []string{`"second" on the machine node2`}, "boxrun", "up", "first")
	two.must("boxrun", "up", "second")

	// A machine that is off keeps its mark, until a person takes the overlay over.
	one.must("boxrun", "up", "--force", "first")
	if r := two.run("boxrun", "doctor", "second"); r.Code != 1 || !strings.Contains(r.Stdout, `was taken over by box "first" on the machine host`) {
		t.Errorf("doctor: %v, want a word of the overlay", r)
	}
	two.must("boxrun", "down", "second") // leaves the mark of the machine that has the overlay now
	two.refuses(1, refused, "boxrun", "up", "second")
	one.must("boxrun", "up", "first")
	one.must("boxrun", "down", "first")
	one.same(oneBefore, stays()...)
	two.same(twoBefore, append(stays(), `^/root/.apptainer/instances/app/node[23]`)...)
}
