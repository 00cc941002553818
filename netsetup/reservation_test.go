package netsetup

import (
	"os"
	"path/filepath"
	"testing"
)

// A boxrun that is killed while it reserves an address leaves nothing that undo does not take away; what others have
// leased stays.
func TestUndoOfHalfAReservation(t *testing.T) {
	const addr = "10.22.0.2"
	tests := []struct {
		name  string
		files map[string]string // in the directory of the network
		stays []string
	}{
		{name: "the directories alone"},
		{name: "an empty lease", files: map[string]string{addr: ""}},
		{name: "the whole lease", files: map[string]string{addr: "boxrun:web\n"}},
		{name: "an empty lease beside the lock of host-local", files: map[string]string{addr: "", "lock": ""}, stays: []string{"lock"}},
		{name: "the lease of another box", files: map[string]string{addr: "boxrun:db\n"}, stays: []string{addr}},
		{name: "the lease of a container", files: map[string]string{addr: "4711\r\neth0", "lock": ""}, stays: []string{addr, "lock"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			networks := filepath.Join(t.TempDir(), "networks")
			dir := filepath.Join(networks, "bridge")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			r := Reservation{Path: filepath.Join(dir, addr), Owner: "boxrun:web"}
			if err := r.undo(nil); err != nil {
				t.Fatal(err)
			}
			for _, name := range test.stays {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Error(err)
				}
			}
			if _, err := os.Stat(networks); len(test.stays) == 0 && !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", networks, err)
			}
		})
	}
}
