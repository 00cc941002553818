package units

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/profiles"
)

// Supervises reports whether systemd supervises an enabled box: the service is up, or between two starts, and learns of
// the box's end, or knows already.
func Supervises(ctx context.Context, b *box.Box) bool {
	if !Booted() {
		return false
	}
	host, err := Dial(ctx)
	if err != nil {
		return false
	}
	defer host.Close()
	state, err := host.activeState(ctx, Instance(b.Profile))
	return err == nil && state != "inactive" && state != "failed"
}

// Supervise makes systemd supervise a running box if its profile is enabled. If systemd ran this boxrun, Supervise
// tells systemd that the box is up.
func Supervise(ctx context.Context, s *box.Store, b *box.Box, p profiles.Profile) error {
	unit := Instance(p)
	if s.Caller.Unit == unit {
		_, err := daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d\nREADY=1\nSTATUS=%s", b.Master.PID, b.Where()))
		return fault.Wrap("telling systemd that "+b.Name+" is up", err)
	}
	if !Booted() || !Enabled(p) {
		return nil
	}
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	if err := refresh(ctx, s, host, p); err != nil {
		return err
	}
	_ = host.Ask(ctx, func(ctx context.Context) error { // fails without a failure to reset
		return host.ResetFailedUnitContext(ctx, unit)
	})
	return fault.Wrap("having systemd watch "+b.Name, host.start(ctx, unit))
}

// refresh rewrites the settings of boxrun@.service for a changed profile.
func refresh(ctx context.Context, s *box.Store, host *Host, p profiles.Profile) error {
	f := dropIn(Dir, p)
	old, err := os.ReadFile(f.path)
	if err == nil && bytes.Equal(old, []byte(f.text)) {
		return nil
	}
	unlock, err := Lock(ctx, s)
	if err != nil {
		return err
	}
	defer unlock()
	if !Enabled(p) { // disabled meanwhile
		return nil
	}
	if err := writeUnits([]unitFile{f}); err != nil {
		return err
	}
	return host.reload(ctx)
}
