package conf

import (
	"net/netip"
	"slices"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/guest"
	"boxrun/profiles"
)

// Every name is a unit's, stands once, and is masked in the host's network and nowhere else.
func TestNetworkManagersAreMasked(t *testing.T) {
	units := networkManagers()
	for i, unit := range units {
		if guest.UnitName(unit) != unit || slices.Contains(units[:i], unit) {
			t.Errorf("%q is no unit's whole name, or stands twice", unit)
		}
	}
	l := &box.Store{Dir: t.TempDir(), Note: func(string) {}}
	for mode, want := range map[string]bool{profiles.HostMode: true, profiles.BridgeMode: false, profiles.NoneMode: false} {
		b := boxtest.In(t, mode)
		b.Profile.Network.DNS = []netip.Addr{netip.MustParseAddr("192.0.2.53")}
		c, err := Told(l, b, b.Profile, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, unit := range units {
			if got := slices.Contains(c.masked(), unit); got != want {
				t.Errorf("%s: %s masked: got %v, want %v", mode, unit, got, want)
			}
		}
	}
}
