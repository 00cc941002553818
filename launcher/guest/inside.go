package guest

import (
	"context"
	"errors"
)

// Inside asks the box's systemd how it is and which units failed.
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
