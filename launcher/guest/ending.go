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
		exe := exeName(init.PID)
		for exe != "" && exe != shutdownExe && process.Sleep(ctx, 5*time.Millisecond) == nil {
			exe = exeName(init.PID)
		}
		e.orderly.Store(exe == shutdownExe && init.Alive()) // another process may have the PID of an init that has ended
	}()
	return e
}

// PoweredOff reports whether the box's systemd shut the box down in good order, as poweroff and reboot inside have it do,
// and "boxrun down". A systemd that crashes or is killed does not.
func (e *Ending) PoweredOff() bool { return e.orderly.Load() }
