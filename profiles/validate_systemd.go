package profiles

import (
	"errors"
	"maps"
	"slices"
	"time"
)

// decode reads [systemd].
func (y *Systemd) decode(s *section) {
	y.decodeEnvironment(s)
	many(s, "mask", &y.Mask, unitName)
	one(s, "stop_timeout", &y.StopTimeout, duration)
	one(s, "restart", &y.Restart, choice("no", "on-failure"))
}

// decodeEnvironment reads a table whose keys are free.
func (y *Systemd) decodeEnvironment(s *section) {
	raw, ok := s.take("environment")
	if !ok {
		return
	}
	table, ok := raw.(map[string]any)
	if !ok {
		s.wrongType("environment", "a table", raw)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		path := join("environment", name)
		if !variables.MatchString(name) {
			s.refuse(path, "must be named with letters, digits and _, not beginning with a digit")
			continue
		}
		if value, ok := element(s, path, table[name], oneLine); ok {
			y.Environment[name] = value
		}
	}
}

// duration reads a time span above zero.
func duration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errors.New("must be a time such as \"90s\" or \"1m30s\"")
	}
	if d <= 0 {
		return 0, errors.New("must be more than zero")
	}
	return d, nil
}
