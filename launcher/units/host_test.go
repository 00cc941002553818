package units

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestAskEnds asks a systemd that never answers.
func TestAskEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := (&Host{}).Ask(t.Context(), func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Hour):
				return nil
			}
		})
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != hostTimeout {
			t.Errorf("got %v after %v, want %v after %v", err, took, context.DeadlineExceeded, hostTimeout)
		}
	})
}
