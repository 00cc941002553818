package files

import (
	"context"
	"errors"
	"time"
)

// ErrSilent is the error of a look at a file system without an answer, as of a server that is away.
var ErrSilent = errors.New("its file system does not answer")

// patience is how long a look may take. An automounter may need a second or two for the first look.
const patience = 3 * time.Second

// Within returns what look returns, ErrSilent after three seconds, or the cause of ctx. Nothing can interrupt a look that
// waits for its file system: such a look goes on in its goroutine, and ends with the process at the latest.
func Within[T any](ctx context.Context, look func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrSilent)
	defer cancel()
	type result struct {
		found T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		found, err := look()
		done <- result{found, err}
	}()
	select {
	case r := <-done:
		return r.found, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
