package network

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/fault"
	"boxrun/profiles"
)

// A box on a bridge is refused where networkd has a file for its veth before boxrun's, and nowhere else.
func TestRefuseTaken(t *testing.T) {
	for file, want := range map[string]string{"!all.network": `add "Name=!sbr0 veth*"`, "00-all.network": ""} {
		root := t.TempDir()
		path := filepath.Join(root, "etc/systemd/network", file)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.MkdirAll(filepath.Join(root, "run/systemd/netif"), 0o755),
			os.WriteFile(path, []byte("[Match]\nName=*\n"), 0o600))
		if err != nil {
			t.Fatal(err)
		}
		p := profiles.Default()
		p.Network.Mode, p.Network.Bridge = profiles.BridgeMode, "sbr0"
		err = refuseTaken(root, p)
		if errors.Is(err, fault.ErrRefused) != (want != "") || !strings.Contains(fault.HintOf(err), want) || err != nil && !strings.Contains(err.Error(), "/etc/systemd/network/"+file) {
			t.Errorf("%s: %v, hint %q, want %q", file, err, fault.HintOf(err), want)
		}
		if p.Network.Mode = "host"; refuseTaken(root, p) != nil {
			t.Errorf("%s: refused in the host's network, too", file)
		}
	}
}
