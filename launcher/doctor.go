package launcher

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/profiles"
)

// Verdict is what a check came to.
type Verdict string

// A Warn is worth knowing; with a Fail some box does not work, or cannot. A Skip could not be looked at, or has no
// meaning here.
const (
	Pass Verdict = "PASS"
	Warn Verdict = "WARN"
	Fail Verdict = "FAIL"
	Skip Verdict = "SKIP"
)

// Check is one thing that was looked at.
type Check struct {
	Area   string  `json:"area"` // host, network, leftovers, or the box's name
	Name   string  `json:"name"`
	Status Verdict `json:"status"`
	Found  string  `json:"found"`
	Why    string  `json:"why,omitempty"` // it matters
	Fix    string  `json:"fix,omitempty"` // the one command that mends it
}

// mendCommand is the fix of all that is boxrun's.
const mendCommand = "boxrun doctor --fix"

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

// broken is a check that could not be made.
func broken(err error) Check {
	return Check{Status: Fail, Found: "could not be looked at: " + err.Error(), Fix: HintOf(err)}
}

// named gives the check a name of its own among several of one look.
func (c Check) named(name string) Check {
	c.Name = name
	return c
}

// look is one small function that looks at something. Of several checks each has a name; one alone gets the look's.
type look struct {
	area, name string
	run        func(context.Context) []Check
}

// one makes a look of a function that comes to one check.
func one(area, name string, run func(context.Context) Check) look {
	return look{area, name, func(ctx context.Context) []Check { return []Check{run(ctx)} }}
}

// lookTimeout bounds each look; they are made side by side.
const lookTimeout = 4 * time.Second

// looking bounds how many looks there are at once: many of them run programs.
const looking = 12

// examine makes all looks, and gives their checks in the order of the looks.
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

// examine makes the look, but does not wait for one that hangs in a system call.
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

// doctor is one examination.
type doctor struct {
	l     *Launcher
	root  string // "/", where files of the host are looked for
	boxes []*Box // all there is state of, by name

	unread []string // names of boxes whose records cannot be read

	// what several looks need, read once
	firewall  func() (firewall.State, error)
	apptainer func() (apptainerFacts, error)
	external  func() (netsetup.External, error)
	outsider  *netsetup.Outsider // nil where it could not be made
	noOutside string             // why
}

func (l *Launcher) newDoctor() (*doctor, error) {
	boxes, err := l.boxes()
	if err != nil && !errors.Is(err, errUnreadable) {
		return nil, err
	}
	return &doctor{
		l: l, root: "/", boxes: boxes, unread: l.unreadBoxes(),
		firewall:  sync.OnceValues(firewall.Read),
		apptainer: sync.OnceValues(readApptainer),
		external:  sync.OnceValues(netsetup.DefaultExternal),
		noOutside: "no box is to be reached",
	}, nil
}

// Doctor examines the host and, of the box named or with "" of all, the way of packets in and out, port by port. Of a
// profile p that is not up it tells what up would refuse; without such it is nil. Nothing is changed; to see
// connections through it makes a network of its own for a moment, which nothing is left of. ErrNotFound where there is
// neither a box nor a profile of that name.
func (l *Launcher) Doctor(ctx context.Context, name string, p *profiles.Profile) ([]Check, error) {
	if name != "" && p == nil {
		if _, err := l.find(name); err != nil {
			return nil, err
		}
	}
	d, err := l.newDoctor()
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

// subjects gives the boxes to examine.
func (d *doctor) subjects(name string) []*Box {
	var subjects []*Box
	for _, b := range d.boxes {
		if name == "" || b.Name == name {
			subjects = append(subjects, b)
		}
	}
	return subjects
}

// openOutside makes the network that clients are played from, where there is a box to be reached. The function it gives
// takes it away.
func (d *doctor) openOutside(subjects []*Box) (takeAway func()) {
	if !slices.ContainsFunc(subjects, func(b *Box) bool { return b.alive() && b.bridged() }) {
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
			d.l.notef("warning: %v", err)
		}
	}
}

// profileLook tells what up would refuse of a profile that is not up.
func (d *doctor) profileLook(p profiles.Profile) look {
	return look{p.Name, "profile", func(context.Context) []Check {
		k, err := openKernel()
		if err != nil {
			return []Check{broken(err)}
		}
		defer k.Close()
		err = d.l.refuse(k, p)
		if err == nil {
			return []Check{warn("nothing keeps it from coming up", "boxrun up "+p.Name, "the box is not up")}
		}
		var checks []Check
		for _, e := range joined(err) {
			checks = append(checks, fail("boxrun up refuses it", HintOf(e), "%v", e))
		}
		return checks
	}}
}

// joined takes errors apart that were joined; none where err is nil.
func joined(err error) []error {
	if err == nil {
		return nil
	}
	var several interface{ Unwrap() []error }
	if !errors.As(err, &several) {
		return []error{err}
	}
	var all []error
	for _, e := range several.Unwrap() {
		all = append(all, joined(e)...)
	}
	return all
}

// Failed says whether one of the checks did.
func Failed(checks []Check) bool {
	return slices.ContainsFunc(checks, func(c Check) bool { return c.Status == Fail })
}

func (d *doctor) path(name string) string { return filepath.Join(d.root, name) }

// listed gives a list as a sentence has it, at most n of it.
func listed(words []string, n int) string {
	if len(words) > n {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:n], ", "), len(words)-n)
	}
	return strings.Join(words, ", ")
}
