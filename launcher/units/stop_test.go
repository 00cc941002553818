package units

import (
	"errors"
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

// systemd tells boxrun to stop a service whose box has ended: a lock that nobody holds is had, and one that another boxrun
// holds is not waited for.
func TestAStopAfterTheEndOfTheBox(t *testing.T) {
	s := &box.Store{Dir: t.TempDir(), Note: func(string) {}, Caller: box.Caller{Unit: "boxrun@web.service"}}
	for range 1000 {
		unlock, err := LockToStop(t.Context(), s, "web")
		if err != nil {
			t.Fatalf("with nobody at work on the box: %v", err)
		}
		unlock()
	}
	unlock, err := s.LockBox(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := LockToStop(t.Context(), s, "web"); !errors.Is(err, ErrTakenDown) {
		t.Errorf("with another boxrun at work on the box: %v, want %v", err, ErrTakenDown)
	}
}
