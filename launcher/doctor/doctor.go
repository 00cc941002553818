package doctor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/network"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/profiles"
)

// Verdict is the result of a check.
type Verdict string

// A Warn is worth knowing. After a Fail some box does not work, or cannot start. A Skip means the check could not be
// made, or has no meaning here.
const (
	Pass Verdict = "PASS"
	Warn Verdict = "WARN"
	Fail Verdict = "FAIL"
	Skip Verdict = "SKIP"
)

// Check is the result of looking at a single thing.
type Check struct {
	Area   string  `json:"area"` // host, network, leftovers, or the box's name
	Name   string  `json:"name"`
	Status Verdict `json:"status"`
	Found  string  `json:"found"`
	Why    string  `json:"why,omitempty"` // why the finding matters
	Fix    string  `json:"fix,omitempty"` // the command that repairs the finding
}

func pass(format string, args ...any) Check {
	return Check{Status: Pass, Found: fmt.Sprintf(format, args...)}
}

func skip(format string, args ...any) Check {
	return Check{Status: Skip, Found: fmt.Sprintf(format, args...)}
}

func warn(why, fix, format string, args ...any) Check {
	return Check{Status: Warn, Found: fmt.Sprintf(format, args...), Why: why, Fix: fix}
}

func fail(why, fix, format string, args ...any) Check {
	return Check{Status: Fail, Found: fmt.Sprintf(format, args...), Why: why, Fix: fix}
}

// broken returns a check that could not be made because of err.
func broken(err error) Check {
	return Check{Status: Fail, Found: "could not be looked at: " + err.Error(), Fix: fault.HintOf(err)}
}

// named returns the check with a name, for looks with several checks.
func (c Check) named(name string) Check {
	c.Name = name
	return c
}

// look is a small function that examines a part of the host. A look with several checks names each of them; a single
// check gets the name of the look.
type look struct {
	area, name string
	run        func(context.Context) []Check
}

// one returns a look for a function with a single check.
func one(area, name string, run func(context.Context) Check) look {
	return look{area, name, func(ctx context.Context) []Check { return []Check{run(ctx)} }}
}

// lookTimeout limits the time of each look. Looks run at the same time.
const lookTimeout = 4 * time.Second

// looking limits how many looks run at the same time: many looks run programs.
const looking = 12

// examine runs all looks, and returns their checks in the order of the looks.
func examine(ctx context.Context, looks []look) []Check {
	results := make([][]Check, len(looks))
	places := make(chan struct{}, looking)
	var all sync.WaitGroup
	for i, l := range looks {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			results[i] = l.examine(ctx)
		})
	}
	all.Wait()
	return slices.Concat(results...)
}

// examine runs the look for at most lookTimeout. A look that hangs in a system call is not waited for, and becomes a
// failed check.
func (l look) examine(ctx context.Context) []Check {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	done := make(chan []Check, 1)
	go func() { done <- l.run(ctx) }()
	var checks []Check
	select {
	case checks = <-done:
	case <-ctx.Done():
		checks = []Check{fail("the host is overloaded, or the kernel holds somebody up", "", "took longer than %s", lookTimeout)}
	}
	for i := range checks {
		checks[i].Area = l.area
		if checks[i].Name == "" {
			checks[i].Name = l.name
		}
	}
	return checks
}

// doctor holds everything for a run of Doctor.
type doctor struct {
	l     *launcher.Launcher
	root  string     // "/"; files of the host are read below this directory
	boxes []*box.Box // all boxes with a readable state, by name

	unread []string // boxes with unreadable records

	// what several looks need; read at the first use
	firewall  func() (firewall.State, error)
	apptainer func() (apptainerFacts, error)
	external  func() (netsetup.External, error)
	outsider  *netsetup.Outsider // nil where the network could not be made
	noOutside string             // why outsider is nil
}

// newDoctor reads the boxes. Unreadable boxes are not an error: their names go to unread.
func newDoctor(l *launcher.Launcher) (*doctor, error) {
	boxes, err := l.All()
	if err != nil && !errors.Is(err, box.ErrUnreadable) {
		return nil, err
	}
	return &doctor{
		l: l, root: "/", boxes: boxes, unread: l.UnreadBoxes(),
		firewall:  sync.OnceValues(firewall.Read),
		apptainer: sync.OnceValues(readApptainer),
		external:  sync.OnceValues(netsetup.DefaultExternal),
		noOutside: "no box is to be reached",
	}, nil
}

// Examine examines the host, and the path of packets into and out of the box name, port by port. With name "" all
// boxes are examined. p is the profile of that name, or nil: for a profile without a box the checks say what up would
// refuse.
//
// Nothing is changed. To see connections pass, Doctor makes a network of its own, and removes it before it returns.
// The error is ErrNotFound where there is neither a box nor a profile of that name.
func Examine(ctx context.Context, l *launcher.Launcher, name string, p *profiles.Profile) ([]Check, error) {
	if name != "" && p == nil {
		if _, err := l.Find(name); err != nil {
			return nil, err
		}
	}
	d, err := newDoctor(l)
	if err != nil {
		return nil, err
	}
	looks := slices.Concat(d.hostLooks(), d.networkLooks(), d.leftoverLooks())
	subjects := d.subjects(name)
	if len(subjects) == 0 && p != nil {
		looks = append(looks, d.profileLook(*p))
	}
	defer d.openOutside(subjects)()
	for _, b := range subjects {
		looks = append(looks, d.boxLooks(b)...)
	}
	return d.hintCloud(pointed(examine(ctx, looks)), subjects), nil
}

// subjects returns the boxes to examine: the box name, or all boxes for "".
func (d *doctor) subjects(name string) []*box.Box {
	var subjects []*box.Box
	for _, b := range d.boxes {
		if name == "" || b.Name == name {
			subjects = append(subjects, b)
		}
	}
	return subjects
}

// openOutside makes the network for test clients, if there is a running box on a bridge. The returned function
// removes the network.
func (d *doctor) openOutside(subjects []*box.Box) (takeAway func()) {
	if !slices.ContainsFunc(subjects, func(b *box.Box) bool { return b.Alive() && b.Bridged() }) {
		return func() {}
	}
	mtu := 1500
	if e, err := d.external(); err == nil && e.MTU > 0 {
		mtu = min(mtu, e.MTU)
	}
	o, err := netsetup.OpenOutsider(mtu - 100)
	if err != nil {
		d.noOutside = err.Error()
		return func() {}
	}
	d.outsider = o
	return func() {
		if err := o.Close(); err != nil {
			d.l.Notef("warning: %v", err)
		}
	}
}

// profileLook reports what up would refuse for a profile without a box.
func (d *doctor) profileLook(p profiles.Profile) look {
	return look{p.Name, "profile", func(context.Context) []Check {
		k, err := network.OpenKernel()
		if err != nil {
			return []Check{broken(err)}
		}
		defer k.Close()
		err = d.l.Refuse(k, p)
		if err == nil {
			return []Check{warn("nothing keeps it from coming up", "boxrun up "+p.Name, "the box is not up")}
		}
		var checks []Check
		for _, e := range fault.Joined(err) {
			checks = append(checks, fail("boxrun up refuses it", fault.HintOf(e), "%v", e))
		}
		return checks
	}}
}

// Failed says whether any of the checks has the status Fail.
func Failed(checks []Check) bool {
	return slices.ContainsFunc(checks, func(c Check) bool { return c.Status == Fail })
}

func (d *doctor) path(name string) string { return filepath.Join(d.root, name) }
