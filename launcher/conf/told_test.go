package conf

import (
	"slices"
	"testing"

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
	for mode, want := range map[string]bool{profiles.HostMode: true, profiles.BridgeMode: false, profiles.NoneMode: false} {
		b := boxtest.In(t, mode)
		c := Told(b, b.Profile, Resolvers{}, nil)
		for _, unit := range units {
			if got := slices.Contains(c.masked(), unit); got != want {
				t.Errorf("%s: %s masked: got %v, want %v", mode, unit, got, want)
			}
		}
	}
}
