package units

import (
	"fmt"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
)

// TestWhoStopsABox looks at a dead box from the services that systemd may be stopping.
func TestWhoStopsABox(t *testing.T) {
	b := &box.Box{Name: "web", Unit: "boxrun-web.service", Phase: box.Running, Profile: testkit.Profile("web", testkit.Ports())}
	b.Master = process.Process{PID: 1 << 30}
	for name, c := range map[string]struct {
		caller box.Caller
		want   string
	}{
		"a person":                        {box.Caller{Root: true}, "others false, unseen false"},
		"its service, which saw its end":  {box.Caller{Unit: "boxrun-web.service", Ended: true}, "others false, unseen false"},
		"its service, told to stop":       {box.Caller{Unit: "boxrun-web.service", MainPID: "9"}, "others false, unseen false"},
		"its service, which saw no end":   {box.Caller{Unit: "boxrun-web.service"}, "others false, unseen true"},
		"the service that supervises it":  {box.Caller{Unit: "boxrun@web.service", MainPID: "1073741824"}, "others false, unseen false"},
		"the service of an earlier start": {box.Caller{Unit: "boxrun@web.service", MainPID: "9"}, "others true, unseen false"},
		"the service told to stop before": {box.Caller{Unit: "boxrun@web.service", Ended: true, Halted: true}, "others false, unseen false"},
		"the service of another box":      {box.Caller{Unit: "boxrun-db.service"}, "others false, unseen false"},
	} {
		t.Run(name, func(t *testing.T) {
			got := fmt.Sprintf("others %v, unseen %v", OthersBox(c.caller, b), DiedUnseen(c.caller, b))
			testkit.WantText(t, got, c.want)
		})
	}
}
