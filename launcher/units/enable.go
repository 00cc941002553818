package units

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
	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// RemoveUnitFiles is removeAllUnits for some of UnitFiles.
func RemoveUnitFiles(ctx context.Context, files []string) error {
	if !Booted() {
		return removeAll(files)
	}
	host, err := Dial(ctx)
	if err != nil {
		return errors.Join(err, removeAll(files))
	}
	defer host.Close()
	err = host.disableUnits(ctx, EnabledAmong(files))
	return errors.Join(fault.Wrap("disabling boxes", err), removeAll(files), host.reload(ctx),
		host.forgetFailures(ctx, "boxrun@*.service", "boxrun-*.service"))
}

// removeAll removes files and directories that are there, but directories with something of an administrator's in them.
func removeAll(paths []string) error {
	var errs []error
	for _, file := range paths {
		if err := files.RemoveIfThere(file); !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// EnabledAmong gives the units that links among files start.
func EnabledAmong(files []string) []string {
	var units []string
	for _, file := range files {
		unit := filepath.Base(file)
		if strings.HasSuffix(filepath.Dir(file), ".wants") && !slices.Contains(units, unit) {
			units = append(units, unit)
		}
	}
	return units
}

// Enable has a box started at boot, started again when it dies, and its rules put back when a firewall took them away. A
// box that is up is watched from now on; one that is not is left so. It can be repeated, as after an edit of the profile.
func Enable(ctx context.Context, s *box.Store, p profiles.Profile) (up bool, err error) {
	if err := profiles.Trusted(s.Exe, profiles.RootAlone); err != nil {
		return false, err
	}
	if err := enable(ctx, s, p); err != nil {
		return false, err
	}
	return watchNow(ctx, s, p)
}

// enable has systemd start a box at boot.
func enable(ctx context.Context, s *box.Store, p profiles.Profile) error {
	host, err := hostForUnits(ctx, s)
	if err != nil {
		return err
	}
	defer host.Close()
	unlock, err := LockUnits(ctx, s)
	if err != nil {
		return err
	}
	defer unlock()
	files, err := sharedUnits(s, UnitDir)
	if err != nil {
		return err
	}
	if err := writeUnits(append(files, dropIn(UnitDir, p))); err != nil {
		return err
	}
	return host.enable(ctx, append(HealingUnits(), InstanceUnit(p))...)
}

// LockUnits takes the lock of the units that all enabled boxes share, and of which box is enabled: the last to be disabled
// takes them away. It is held for no longer than systemd takes to read them, and no other lock is taken meanwhile.
func LockUnits(ctx context.Context, s *box.Store) (func(), error) {
	return s.Lock(ctx, "units", "what starts boxes at boot")
}

// hostForUnits connects to the host's systemd, for which units are written or removed. A host that another init runs has none.
func hostForUnits(ctx context.Context, s *box.Store) (*Host, error) {
	if !Booted() {
		return nil, fault.Refused("start boxes from what starts services here, with \"boxrun up\"", "this host is not run by systemd")
	}
	return Dial(ctx)
}

func writeUnits(units []unitFile) error {
	for _, f := range units {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return fmt.Errorf("writing unit: %w", err)
		}
		if err := files.ReplaceIfChanged(f.path, []byte(f.text), 0o644); err != nil {
			return fmt.Errorf("writing unit: %w", err)
		}
	}
	return nil
}

// enable has systemd start units with what wants them, and read their files again.
func (h *Host) enable(ctx context.Context, units ...string) error {
	err := h.Ask(ctx, func(ctx context.Context) error {
		_, _, err := h.Conn.EnableUnitFilesContext(ctx, units, false, true)
		return err
	})
	if err != nil {
		return fmt.Errorf("enabling %v: %w", units, err)
	}
	return h.reload(ctx)
}

// watchNow starts watching a box that is up, and the firewalld that runs.
func watchNow(ctx context.Context, s *box.Store, p profiles.Profile) (up bool, err error) {
	if err := startWatch(ctx, s); err != nil {
		return false, err
	}
	b, err := s.Load(p.Name)
	if err != nil || b.Phase != box.Running || !b.Alive() {
		return false, files.IgnoreNotExist(err)
	}
	return true, Watched(ctx, s, b, p)
}

// refresh writes anew what boxrun@.service is told of a profile that changed.
func refresh(ctx context.Context, s *box.Store, host *Host, p profiles.Profile) error {
	f := dropIn(UnitDir, p)
	old, err := os.ReadFile(f.path)
	if err == nil && bytes.Equal(old, []byte(f.text)) {
		return nil
	}
	unlock, err := LockUnits(ctx, s)
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
func Disable(ctx context.Context, s *box.Store, arg string) (was bool, err error) {
	if files, err := UnitFiles(); err == nil && len(files) == 0 {
		return false, nil
	}
	unlock, err := LockUnits(ctx, s)
	if err != nil {
		return false, err
	}
	defer unlock()
	unit := instanceOf(profiles.Word(arg))
	if !startedAtBoot(unit) {
		return false, sweepUnits(ctx, s)
	}
	host, err := hostForUnits(ctx, s)
	if err != nil {
		return true, err
	}
	defer host.Close()
	gone, last, err := leaving(unit)
	if err != nil {
		return true, err
	}
	if last {
		if err := host.StopHealing(ctx); err != nil {
			return true, err
		}
	}
	if err := keepRunning(ctx, s, host, unit); err != nil {
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
func sweepUnits(ctx context.Context, s *box.Store) error {
	enabled, err := enabledUnits()
	if err != nil || len(enabled) > 0 || !Booted() {
		return err
	}
	host, err := hostForUnits(ctx, s)
	if err != nil {
		return err
	}
	defer host.Close()
	if active, err := host.watchedUnits(ctx); err != nil || len(active) > 0 {
		return err
	}
	files, err := UnitFiles()
	files = slices.DeleteFunc(files, func(file string) bool {
		return !strings.HasPrefix(file, UnitDir+"/") || strings.Contains(file, ".service.d")
	})
	if err != nil || len(files) == 0 {
		return err
	}
	return errors.Join(host.StopHealing(ctx), RemoveUnitFiles(ctx, files))
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
	return append(HealingUnits(), unit), true, nil
}

// keepRunning copies to /run what systemd needs to stop the box that is up in an orderly way, and any other of the
// template's.
func keepRunning(ctx context.Context, s *box.Store, host *Host, unit string) error {
	active, err := host.watchedUnits(ctx)
	if err != nil || len(active) == 0 {
		return err
	}
	files, err := sharedUnits(s, unitRunDir)
	if err != nil {
		return err
	}
	conf, err := os.ReadFile(dropInPath(UnitDir, unit))
	if errors.Is(err, fs.ErrNotExist) {
		return writeUnits(files[:1])
	}
	if err != nil {
		return fmt.Errorf("reading unit: %w", err)
	}
	return writeUnits([]unitFile{files[0], {dropInPath(unitRunDir, unit), string(conf)}})
}

// watchedUnits gives the services of boxes that systemd watches, or is about to.
func (h *Host) watchedUnits(ctx context.Context) (active []systemdbus.UnitStatus, err error) {
	err = h.Ask(ctx, func(ctx context.Context) (err error) {
		active, err = h.Conn.ListUnitsByPatternsContext(ctx, []string{"active", "activating", "deactivating", "reloading"}, []string{"boxrun@*.service"})
		return err
	})
	return active, fault.Wrap("listing boxes that systemd watches", err)
}

// removeUnits removes the files of a box that is disabled already, and with the last one those of all.
func removeUnits(unit string, last bool) error {
	conf := dropInPath(UnitDir, unit)
	errs := []error{files.RemoveIfThere(conf), files.RemoveIfThere(filepath.Dir(conf))}
	if last {
		for _, unit := range []string{templateUnit, repairTemplate, watchTemplate} {
			errs = append(errs, files.RemoveIfThere(filepath.Join(UnitDir, unit)))
		}
	}
	return errors.Join(errs...)
}
