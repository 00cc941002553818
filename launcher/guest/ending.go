package guest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"boxrun/launcher/fault"
	"boxrun/launcher/process"
)

// ErrPoweredOff is the ErrNotStarted of a box that somebody inside powered off while the box started.
var ErrPoweredOff = fmt.Errorf("%w: it was powered off from inside", fault.ErrNotStarted)

// Ending is what is seen of the end of a box.
type Ending struct{ orderly atomic.Bool }

// WatchEnding watches how the box with the init ends, until then or until ctx ends.
func WatchEnding(ctx context.Context, init process.Process) *Ending {
	e := &Ending{}
	go func() {
		for init.Alive() && !e.orderly.Load() && process.Sleep(ctx, 5*time.Millisecond) == nil {
			e.orderly.Store(exeName(init.PID) == shutdownExe)
		}
	}()
	return e
}

// PoweredOff reports whether the box's systemd shut the box down in good order, as poweroff and reboot inside have it do,
// and "boxrun down". A systemd that crashes or is killed does not.
func (e *Ending) PoweredOff() bool { return e.orderly.Load() }
