package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
)

// The CNI plugin fails on a veth that networkd took off the bridge before; networkd's file is to be named with the failure.
func TestExplain(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "etc/systemd/network/00-all.network")
	err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.MkdirAll(filepath.Join(root, "run/systemd/netif"), 0o755),
		os.WriteFile(file, []byte("[Match]\nName=*\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	b := &box.Box{Name: "web"}
	b.Profile.Network.Mode, b.Profile.Network.Bridge = "bridge", "sbr0"
	failed := fmt.Errorf("%w: failed to setup hairpin mode for veth044c1577: operation not supported", fault.ErrNotStarted)
	got := explain(root, b, failed)
	if !errors.Is(got, fault.ErrNotStarted) || !strings.Contains(got.Error(), "/etc/systemd/network/00-all.network") ||
		!strings.Contains(fault.HintOf(got), `add "Name=!sbr0 veth*"`) {
		t.Errorf("got %v, hint %q", got, fault.HintOf(got))
	}
	for _, other := range []error{nil, errors.New("hairpin mode"), fmt.Errorf("%w: no /sbin/init", fault.ErrNotStarted)} {
		if got := explain(root, b, other); !errors.Is(got, other) || fault.HintOf(got) != "" {
			t.Errorf("of %v: got %v", other, got)
		}
	}
}
