package launcher

import (
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// A box stops after the boxes depending on it. Otherwise boxes stop in the order of the arguments.
func TestStopOrder(t *testing.T) {
	needs := func(names ...string) func(*profiles.Profile) {
		return func(p *profiles.Profile) { p.DependsOn = names }
	}
	boxes := []*box.Box{boxtest.Of("app", needs("db-1", "cache")), boxtest.Of("cache", needs()), boxtest.Of("db-1", needs()), boxtest.Of("site", needs("app")),
		boxtest.Of("left", needs("right")), boxtest.Of("right", needs("left"))}
	for _, test := range []struct{ named, want string }{
		{"app cache db-1 site", "site app cache db-1"},
		{"db@1 site", "site db@1"}, // through app, which stays
		{"nosuch /srv/db@1 ./app.toml nosuch", "nosuch nosuch ./app.toml /srv/db@1"},
		{"cache db-1", "cache db-1"},
		{"db-1 cache", "db-1 cache"},
		{"left right", "right left"}, // a circle
		{"", ""},
	} {
		t.Run(test.named, func(t *testing.T) {
			testkit.WantText(t, strings.Join(stopOrder(boxes, strings.Fields(test.named)), " "), test.want)
		})
	}
}
