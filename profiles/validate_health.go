package profiles

import (
	"errors"
	"strings"
	"time"
)

// decode reads [health].
func (h *Health) decode(s *section) {
	take(s, "interval", &h.Interval, text(interval))
	take(s, "timeout", &h.Timeout, text(duration))
	take(s, "retries", &h.Retries, whole(retries))
	take(s, "action", &h.Action, text(choice("none", "restart")))
	take(s, "on_failure", &h.OnFailure, text(optional(hostService)))
	if h.Action == "restart" && h.Interval == 0 && s.valid("action", "interval") {
		s.refuse("action", "needs health.interval: nobody looks at the box without it")
	}
}

// interval reads the time between two looks; 0 is never. A look takes some milliseconds of a processor.
func interval(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil && d == 0 {
		return 0, nil
	}
	d, err := duration(s)
	if err == nil && d < time.Second {
		err = errors.New("must be at least 1s, or 0s for never")
	}
	return d, err
}

func retries(n int64) (int, error) {
	if n < 1 || n > 100 {
		return 0, errors.New("must be 1 to 100")
	}
	return int(n), nil
}

// hostService checks the name of a service of the host, which may be a template.
func hostService(s string) (string, error) {
	return ruled(s, isUnit(s) && strings.HasSuffix(s, ".service"), 200, "must be a service of the host, such as \"mail-root.service\" or \"mail-root@.service\"")
}
