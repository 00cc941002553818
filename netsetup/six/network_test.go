package six

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The automatic network of a bridge is the same on every day; another bridge or another machine has another.
func TestUniqueLocal(t *testing.T) {
	const id, other = "0123456789abcdef0123456789abcdef", "f123456789abcdef0123456789abcdef"
	of := func(id, bridge string) netip.Prefix {
		t.Helper()
		etc := t.TempDir()
		if err := os.WriteFile(filepath.Join(etc, "machine-id"), []byte(id), 0o444); err != nil {
			t.Fatal(err)
		}
		network, err := UniqueLocal(etc, bridge)
		if err != nil {
			t.Fatal(err)
		}
		return network
	}
	sbr0 := of(id+"\n", "sbr0")
	// By the command: printf 'boxrun %s sbr0' $ID | sha256sum
	if want := "fd58:bf90:e2e1:edb1::/64"; sbr0.String() != want {
		t.Errorf("got %v, want %v as on any other day", sbr0, want)
	}
	if again := of(id, "sbr0"); again != sbr0 {
		t.Errorf("without the newline: got %v, want %v", again, sbr0)
	}
	if !netip.MustParsePrefix("fd00::/8").Overlaps(sbr0) {
		t.Errorf("%v is not unique local", sbr0)
	}
	if strings.Contains(strings.ReplaceAll(sbr0.String(), ":", ""), id[:6]) {
		t.Errorf("%v tells the id of the machine", sbr0)
	}
	if br1, far := of(id, "br1"), of(other, "sbr0"); br1 == sbr0 || far == sbr0 {
		t.Errorf("got %v for another bridge and %v for another machine, as for sbr0", br1, far)
	}
}

func TestUniqueLocalWithoutAnID(t *testing.T) {
	for name, id := range map[string]string{"uninitialized": "uninitialized\n", "empty": "", "short": "0123"} {
		etc := t.TempDir()
		if err := os.WriteFile(filepath.Join(etc, "machine-id"), []byte(id), 0o444); err != nil {
			t.Fatal(err)
		}
		if network, err := UniqueLocal(etc, "sbr0"); err == nil || network.IsValid() {
			t.Errorf("%s: got %v, %v, want an error", name, network, err)
		}
	}
	if _, err := UniqueLocal(t.TempDir(), "sbr0"); !os.IsNotExist(err) {
		t.Errorf("without the file: %v", err)
	}
}

// The example is that of RFC 4291, appendix A.
func TestLinkLocal(t *testing.T) {
	mac, err := net.ParseMAC("34-56-78-9a-bc-de")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := LinkLocal(mac).String(), "fe80::3656:78ff:fe9a:bcde/64"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
