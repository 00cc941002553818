package guest

import (
	"context"
	"errors"
)

// Inside asks the box's systemd for its state and failed units. Without a systemd the state is "none".
func Inside(ctx context.Context, pid int) (state string, failed []string, err error) {
	s, err := Dial(ctx, pid)
	if errors.Is(err, errNoSystemd) {
		return "none", []string{}, nil
	}
	if err != nil {
		return "", nil, err
	}
	defer s.Close()
	if state, err = s.State(ctx); err != nil {
		return "", nil, err
	}
	failed, err = s.Failed(ctx)
	return state, failed, err
}
