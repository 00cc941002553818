package e2e

import (
	"strings"
	"testing"
)

// Units with a view of the files of their own begin with a bind of the box's root. That Apptainer makes it unbindable shows
// on kernels before 6.17 alone: here the mount's own words are looked at, in the virtual machine such units are started.
func TestTheRootOfABoxCanBeBound(t *testing.T) {
	h := newHost(t)
	for _, name := range []string{"web", "hello"} {
		h.must("boxrun", "up", name)
		init := strings.TrimSpace(h.must("jq", ".state.init.pid", "/run/boxrun/boxes/"+name+".json"))
		root, _, _ := strings.Cut(h.must("cat", "/proc/"+init+"/mountinfo"), "\n")
		if !strings.Contains(root, " / / rw,") || strings.Contains(root, "unbindable") {
			t.Errorf("%s: got %q, want a root that can be bound", name, root)
		}
	}
	h.must("boxrun", "exec", "web", "--", "systemd-run", "-q", "--wait", "-p", "PrivateTmp=yes", "true")
}
