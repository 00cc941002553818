package journal

import (
	"context"

	"boxrun/launcher/box"
	"boxrun/launcher/enter"
	"boxrun/launcher/guest"
)

// Units returns the units loaded by a box's systemd, sorted by name: only these can have written log lines. Error:
// ErrNotFound if the box is not up.
func Units(ctx context.Context, store *box.Store, name string) ([]guest.Unit, error) {
	b, err := enter.Find(store, name)
	if err != nil {
		return nil, err
	}
	s, err := guest.Dial(ctx, b.Init.PID)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Units(ctx)
}
