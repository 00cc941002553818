package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"

	"boxrun/profiles"
)

// Enable has a box started at boot, started again when it dies, and its rules put back when a firewall took them away. A
// box that is up is watched from now on; one that is not is left so. It can be repeated, as after an edit of the profile.
func (s *Store) Enable(ctx context.Context, p profiles.Profile) (up bool, err error) {
	if err := profiles.Trusted(s.Exe, profiles.RootAlone); err != nil {
		return false, err
	}
	if err := s.enable(ctx, p); err != nil {
		return false, err
	}
	return s.watchNow(ctx, p)
}

// enable has systemd start a box at boot.
func (s *Store) enable(ctx context.Context, p profiles.Profile) error {
	host, err := s.hostForUnits(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	unlock, err := s.lockUnits(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	files, err := s.sharedUnits(unitDir)
	if err != nil {
		return err
	}
	if err := writeUnits(append(files, dropIn(unitDir, p))); err != nil {
		return err
	}
	return host.enable(ctx, append(healingUnits(), instanceUnit(p))...)
}

// lockUnits takes the lock of the units that all enabled boxes share, and of which box is enabled: the last to be disabled
// takes them away. It is held for no longer than systemd takes to read them, and no other lock is taken meanwhile.
func (s *Store) lockUnits(ctx context.Context) (func(), error) {
	return s.lock(ctx, "units", "what starts boxes at boot")
}

// hostForUnits connects to the host's systemd, for which units are written or removed. A host that another init runs has none.
func (s *Store) hostForUnits(ctx context.Context) (*hostSystemd, error) {
	if !systemdHost() {
		return nil, refused("start boxes from what starts services here, with \"boxrun up\"", "this host is not run by systemd")
	}
	return dialHost(ctx)
}

func writeUnits(units []unitFile) error {
	for _, f := range units {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return fmt.Errorf("writing unit: %w", err)
		}
		if err := replaceIfChanged(f.path, []byte(f.text), 0o644); err != nil {
			return fmt.Errorf("writing unit: %w", err)
		}
	}
	return nil
}

// enable has systemd start units with what wants them, and read their files again.
func (h *hostSystemd) enable(ctx context.Context, units ...string) error {
	err := h.ask(ctx, func(ctx context.Context) error {
		_, _, err := h.conn.EnableUnitFilesContext(ctx, units, false, true)
		return err
	})
	if err != nil {
		return fmt.Errorf("enabling %v: %w", units, err)
	}
	return h.reload(ctx)
}

// watchNow starts watching a box that is up, and the firewalld that runs.
func (s *Store) watchNow(ctx context.Context, p profiles.Profile) (up bool, err error) {
	if err := s.startWatch(ctx); err != nil {
		return false, err
	}
	b, err := s.load(p.Name)
	if err != nil || b.Phase != Running || !b.alive() {
		return false, ignoreNotExist(err)
	}
	return true, s.watched(ctx, b, p)
}

// refresh writes anew what boxrun@.service is told of a profile that changed.
func (s *Store) refresh(ctx context.Context, host *hostSystemd, p profiles.Profile) error {
	f := dropIn(unitDir, p)
	old, err := os.ReadFile(f.path)
	if err == nil && bytes.Equal(old, []byte(f.text)) {
		return nil
	}
	unlock, err := s.lockUnits(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if !Enabled(p) { // it was disabled meanwhile
		return nil
	}
	if err := writeUnits([]unitFile{f}); err != nil {
		return err
	}
	return host.reload(ctx)
}

// Disable takes back what Enable did; was says whether there was anything to take back. The box is left as it is: one
// that is up stays so, and watched, until it goes down. With the last enabled box the units for all of them go. arg is how
// a person names the profile, which may be invalid by now, or gone.
func (s *Store) Disable(ctx context.Context, arg string) (was bool, err error) {
	if files, err := UnitFiles(); err == nil && len(files) == 0 {
		return false, nil
	}
	unlock, err := s.lockUnits(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	unit := instanceOf(profiles.Word(arg))
	if !startedAtBoot(unit) {
		return false, s.sweepUnits(ctx)
	}
	host, err := s.hostForUnits(ctx)
	if err != nil {
		return true, err
	}
	defer host.Close()
	gone, last, err := leaving(unit)
	if err != nil {
		return true, err
	}
	if last {
		if err := host.stopHealing(ctx); err != nil {
			return true, err
		}
	}
	if err := s.keepRunning(ctx, host, unit); err != nil {
		return true, err
	}
	if err := host.disableUnits(ctx, gone); err != nil {
		return true, fmt.Errorf("disabling %v: %w", gone, err)
	}
	if err := removeUnits(unit, last); err != nil {
		return true, err
	}
	return true, host.reload(ctx)
}

// sweepUnits removes what a disable that was killed has left of the units for all boxes, where none is enabled, and none
// runs by them: somebody may have enabled it in another way.
func (s *Store) sweepUnits(ctx context.Context) error {
	enabled, err := enabledUnits()
	if err != nil || len(enabled) > 0 || !systemdHost() {
		return err
	}
	host, err := s.hostForUnits(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	if active, err := host.watchedUnits(ctx); err != nil || len(active) > 0 {
		return err
	}
	files, err := UnitFiles()
	files = slices.DeleteFunc(files, func(file string) bool {
		return !strings.HasPrefix(file, unitDir+"/") || strings.Contains(file, ".service.d")
	})
	if err != nil || len(files) == 0 {
		return err
	}
	return errors.Join(host.stopHealing(ctx), removeUnitFiles(ctx, files))
}

// leaving gives the units that are disabled together with this one, and whether it is the last one.
func leaving(unit string) (units []string, last bool, err error) {
	enabled, err := enabledUnits()
	if err != nil {
		return nil, false, err
	}
	if slices.ContainsFunc(enabled, func(other string) bool { return other != unit }) {
		return []string{unit}, false, nil
	}
	return append(healingUnits(), unit), true, nil
}

// keepRunning copies to /run what systemd needs to stop the box that is up in an orderly way, and any other of the
// template's.
func (s *Store) keepRunning(ctx context.Context, host *hostSystemd, unit string) error {
	active, err := host.watchedUnits(ctx)
	if err != nil || len(active) == 0 {
		return err
	}
	files, err := s.sharedUnits(unitRunDir)
	if err != nil {
		return err
	}
	conf, err := os.ReadFile(dropInPath(unitDir, unit))
	if errors.Is(err, fs.ErrNotExist) {
		return writeUnits(files[:1])
	}
	if err != nil {
		return fmt.Errorf("reading unit: %w", err)
	}
	return writeUnits([]unitFile{files[0], {dropInPath(unitRunDir, unit), string(conf)}})
}

// watchedUnits gives the services of boxes that systemd watches, or is about to.
func (h *hostSystemd) watchedUnits(ctx context.Context) (active []systemdbus.UnitStatus, err error) {
	err = h.ask(ctx, func(ctx context.Context) (err error) {
		active, err = h.conn.ListUnitsByPatternsContext(ctx, []string{"active", "activating", "deactivating", "reloading"}, []string{"boxrun@*.service"})
		return err
	})
	return active, wrap("listing boxes that systemd watches", err)
}

// removeUnits removes the files of a box that is disabled already, and with the last one those of all.
func removeUnits(unit string, last bool) error {
	conf := dropInPath(unitDir, unit)
	errs := []error{removeIfThere(conf), removeIfThere(filepath.Dir(conf))}
	if last {
		for _, unit := range []string{templateUnit, repairTemplate, watchTemplate} {
			errs = append(errs, removeIfThere(filepath.Join(unitDir, unit)))
		}
	}
	return errors.Join(errs...)
}
