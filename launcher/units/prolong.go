package units

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/profiles"
)

// prolongEvery is the time between two words to systemd. The first comes within the unit's own time.
const prolongEvery = 10 * time.Second

// Prolong gives the start of a box as much time again as a start has, from the end of work on, which may take long: an image
// is made, grown or checked. Only the systemd that runs this boxrun as the service of an enabled box limits the time of a
// start, and is told every ten seconds; for others Prolong does work alone. The error is that of work, or the reason why
// systemd cannot be told.
func Prolong(s *box.Store, p profiles.Profile, work func() error) error {
	if s.Caller.Unit != Instance(p) {
		return work()
	}
	if err := tellMore(p); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- work() }()
	again := time.NewTicker(prolongEvery)
	defer again.Stop()
	for {
		select {
		case err := <-done:
			return cmp.Or(err, tellMore(p))
		case <-again.C:
			if err := tellMore(p); err != nil {
				return errors.Join(err, <-done)
			}
		}
	}
}

// tellMore tells systemd that the start of this service takes a whole start longer, from now on.
func tellMore(p profiles.Profile) error {
	_, err := daemon.SdNotify(false, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", startTimeout(p).Microseconds()))
	return fault.Wrap("asking systemd for more time", err)
}
