package profiles

import (
	"errors"
	"time"
)

// decode reads [systemd].
func (y *Systemd) decode(s *section) {
	take(s, "environment", &y.Environment, entries(variable, text(oneLine)))
	take(s, "mask", &y.Mask, texts(unitName))
	take(s, "stop_timeout", &y.StopTimeout, text(duration))
	take(s, "restart", &y.Restart, text(choice("no", "on-failure")))
	take(s, "journal", &y.Journal, text(choice(BoxJournal, HostJournal)))
}

// variable refuses impossible names of variables.
func variable(name string, _ any) error {
	if !made(name, letters+"_", "") || made(name[:1], "0123456789", "") {
		return errors.New("must be named with letters, digits and _, not beginning with a digit")
	}
	return nil
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
