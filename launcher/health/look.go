package health

import (
	"context"
	"fmt"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/guest"
)

// Look is what a look at a running box found.
type Look struct {
	At     time.Time // end of the look
	Unmet  []string  // unmet checks: "unit nginx.service is inactive (dead)"; empty: the box is well
	State  string    // of the box's systemd, as of guest.Seen
	Failed []string  // failed units in the box, whether [ready] names the units or not
}

// hangGrace is the time a look may take beyond its timeout before the look is given up.
const hangGrace = time.Second

// LookAt looks at a running box once, for health.timeout at most. A missing answer is an unmet check. LookAt
// gives up a look hanging in the kernel, as in a file system of the box. The goroutine of the look stays behind.
func LookAt(ctx context.Context, b *box.Box) Look {
	timeout := b.Profile.Health.Timeout
	if timeout == 0 { // the box was started by an older boxrun
		timeout = guest.AskTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found := make(chan Look, 1)
	go func() { found <- ask(ctx, b) }()
	giveUp := time.NewTimer(timeout + hangGrace)
	defer giveUp.Stop()
	select {
	case l := <-found:
		l.At = time.Now()
		return l
	case <-giveUp.C:
		return Look{At: time.Now(), State: "unknown", Failed: []string{}, Unmet: []string{fmt.Sprintf("a look at the box hung for %v", timeout+hangGrace)}}
	}
}

// ask asks the box for all that [ready] names.
func ask(ctx context.Context, b *box.Box) Look {
	addr, err := b.ReadyAddr()
	want := b.Profile.Ready
	if err != nil {
		want.TCP, want.HTTP = nil, nil
	}
	seen := guest.Readiness{Init: b.Init, Addr: addr, Units: want.Units, TCP: want.TCP, HTTP: want.HTTP}.Look(ctx)
	if err != nil {
		seen.Unmet = append(seen.Unmet, err.Error())
	}
	return Look{State: seen.State, Unmet: seen.Unmet, Failed: seen.Failed}
}
