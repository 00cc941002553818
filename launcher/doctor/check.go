package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/launcher/network"
	"boxrun/netsetup"
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

// unreadable returns a check of a file that could not be read because of err. The check passes where there is no such
// file, and absent is what was found.
func unreadable(err error, absent string) Check {
	if errors.Is(err, fs.ErrNotExist) {
		return pass("%s", absent)
	}
	return broken(err)
}

// named returns the check with a name, for looks with several checks.
func (c Check) named(name string) Check {
	c.Name = name
	return c
}

// Failed says whether any of the checks has the status Fail.
func Failed(checks []Check) bool {
	return slices.ContainsFunc(checks, func(c Check) bool { return c.Status == Fail })
}

// failures returns a failed check for each error joined in err.
func failures(err error, why string) []Check {
	return list.Map(fault.Split(err), func(e error) Check { return fail(why, fault.HintOf(e), "%v", e) })
}

// in returns the check with an area and a name, for checks outside a look.
func (c Check) in(area, name string) Check {
	c.Area, c.Name = area, name
	return c
}

// look is a small function that examines a part of the host. A look with several checks names each of them; a single
// check gets the name of the look.
type look struct {
	area, name string
	run        func(context.Context) []Check
	patience   time.Duration // in place of a shorter lookTimeout
}

// one returns a look for a function with a single check.
func one(area, name string, run func(context.Context) Check) look {
	return look{area: area, name: name, run: func(ctx context.Context) []Check { return []Check{run(ctx)} }}
}

// withKernel returns the function of a look that needs the kernel's view of the network.
func withKernel(s *box.Store, run func(*netsetup.Kernel) []Check) func(context.Context) []Check {
	return func(context.Context) []Check {
		k, err := network.OpenKernel(s)
		if err != nil {
			return []Check{broken(err)}
		}
		defer k.Close()
		return run(k)
	}
}

// lookTimeout limits the time of each look. Looks run at the same time.
const lookTimeout = 4 * time.Second

// looking limits how many looks run at the same time: many looks run programs.
const looking = 12

// run runs all looks, and returns their checks in the order of the looks.
func run(ctx context.Context, looks []look) []Check {
	results := make([][]Check, len(looks))
	places := make(chan struct{}, looking)
	var all sync.WaitGroup
	for i, l := range looks {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			results[i] = l.limited(ctx)
		})
	}
	all.Wait()
	return slices.Concat(results...)
}

// limited runs the look for its time. A look that hangs in a system call is not waited for, and becomes a
// failed check.
func (l look) limited(ctx context.Context) []Check {
	patience := max(l.patience, lookTimeout)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan []Check, 1)
	go func() { done <- l.run(ctx) }()
	var checks []Check
	select {
	case checks = <-done:
	case <-ctx.Done():
		checks = []Check{fail("the host is overloaded, or the kernel holds somebody up", "", "took longer than %s", patience)}
	}
	for i := range checks {
		checks[i].Area = l.area
		if checks[i].Name == "" {
			checks[i].Name = l.name
		}
	}
	return checks
}
