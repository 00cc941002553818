package launcher

import (
	"context"
	"fmt"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/process"
	"boxrun/launcher/units"
)

// errTakenDown is the ErrNotStarted of a box that another boxrun took down while the box started.
var errTakenDown = fmt.Errorf("%w: it was taken down", fault.ErrNotStarted)

// untilStopped returns a context that ends with ctx, by end, or for the cause ErrTakenDown as soon as another boxrun waits for
// the box's lock to take the box down. An up may wait for hours until its box is ready, and a down would wait for the up.
func untilStopped(ctx context.Context, s *box.Store, name string) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for !s.StopWanted(name) {
			if process.Sleep(ctx, 50*time.Millisecond) != nil {
				return
			}
		}
		cancel(units.ErrTakenDown)
	}()
	return ctx, func() { cancel(nil) }
}
