package units

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	systemdbus "github.com/coreos/go-systemd/v22/dbus"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/process"
	"boxrun/profiles"
)

// RemoveFiles makes systemd disable the units started by links among files, which are some or all of Files, removes
// the files, and makes systemd forget failures of boxrun's services.
func RemoveFiles(ctx context.Context, files []string) error {
	if !Booted() {
		return removeAll(files)
	}
	host, err := Dial(ctx)
	if err != nil {
		return errors.Join(err, removeAll(files))
	}
	defer host.Close()
	err = host.disable(ctx, EnabledAmong(files))
	return errors.Join(fault.Wrap("disabling boxes", err), removeAll(files), host.reload(ctx),
		host.forgetFailures(ctx, "boxrun@*.service", "boxrun-*.service"))
}

// removeAll removes files and directories. Missing files are no error. A directory stays if an administrator has put
// files there.
func removeAll(paths []string) error { return files.Removal{Paths: paths, IfEmpty: true}.Do() }

// EnabledAmong returns the units started by links among files.
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

// Enable makes systemd start a box at boot, start the box again after its death, and put rules back taken away by a
// firewall. A running box is supervised from now on; a stopped box stays stopped. up reports whether the box runs.
// Enable can be repeated, as after an edit of the profile.
func Enable(ctx context.Context, s *box.Store, p profiles.Profile) (up bool, err error) {
	if err := profiles.Trusted(s.Exe, profiles.RootAlone); err != nil {
		return false, err
	}
	host, err := hostForUnits(ctx)
	if err != nil {
		return false, err
	}
	defer host.Close()
	if err := host.startAtBoot(ctx, s, p); err != nil {
		return false, err
	}
	return host.superviseNow(ctx, s, p)
}

// startAtBoot makes systemd start a box at boot.
func (h *Host) startAtBoot(ctx context.Context, s *box.Store, p profiles.Profile) error {
	unlock, err := Lock(ctx, s)
	if err != nil {
		return err
	}
	defer unlock()
	files, err := sharedUnits(s, Dir)
	if err != nil {
		return err
	}
	if err := writeUnits(append(files, dropIn(Dir, p))); err != nil {
		return err
	}
	return h.enable(ctx, append(Repairers(), Instance(p))...)
}

// Lock takes the lock of two things: the units common to all enabled boxes, and the list of enabled boxes. The
// last box to be disabled removes these units. A holder keeps the lock no longer than systemd takes to read the units,
// and takes no other lock meanwhile.
func Lock(ctx context.Context, s *box.Store) (func(), error) {
	return s.Lock(ctx, "units", "what starts boxes at boot")
}

// hostForUnits connects to the host's systemd, to write or remove units. On a host run by another init, hostForUnits
// refuses.
func hostForUnits(ctx context.Context) (*Host, error) {
	if !Booted() {
		return nil, fault.Refused("start boxes from what starts services here, with \"boxrun up\"",
			"this host is not run by systemd")
	}
	return Dial(ctx)
}

// writeUnits writes unit files and makes missing directories. A file with the same content stays untouched.
func writeUnits(units []files.File) error {
	return files.Set{Doing: "writing unit", Files: units}.Write()
}

// enable makes systemd start units together with the targets in their [Install] sections, and read unit files again.
func (h *Host) enable(ctx context.Context, units ...string) error {
	err := h.Ask(ctx, func(ctx context.Context) error {
		_, _, err := h.EnableUnitFilesContext(ctx, units, false, true)
		return err
	})
	if err != nil {
		return fmt.Errorf("enabling %v: %w", units, err)
	}
	return h.reload(ctx)
}

// superviseNow starts the watch over the host, and makes systemd supervise a running box. up reports whether the box runs.
func (h *Host) superviseNow(ctx context.Context, s *box.Store, p profiles.Profile) (up bool, err error) {
	if err := h.startWatch(ctx); err != nil {
		return false, err
	}
	b, err := s.Load(p.Name)
	if err != nil || b.Phase != box.Running || !b.Alive() {
		return false, files.IgnoreNotExist(err)
	}
	return true, Supervise(ctx, s, b, p)
}

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

// Supervise makes systemd supervise a running box if its profile is enabled, and returns when a stop of its service would
// stop the box. The error is ErrStopped where somebody has stopped the service before: the box is to go down. If systemd ran
// this boxrun, Supervise tells systemd that the box is up.
func Supervise(ctx context.Context, s *box.Store, b *box.Box, p profiles.Profile) error {
	unit := Instance(p)
	if s.Caller.Unit == unit {
		return handOver(ctx, b, unit)
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
	// A stop of the service that an earlier box was in goes on for a moment. systemd would merge the next stop into that
	// one, and drop the start between.
	host.awaitPast(ctx, unit, "deactivating")
	err = host.begin(ctx, unit)
	switch {
	case errors.Is(err, ErrStopped):
		return &fault.Problem{Kind: err, Text: fmt.Sprintf("%s: %s was stopped before systemd had begun to watch the box", b.Name, unit),
			Hint: fmt.Sprintf("\"boxrun up %s\" brings it up again", b.Name)}
	case errors.Is(err, errQueued):
		s.Notef("%s: warning: systemd does not watch it yet: %v; until then \"boxrun down %s\" takes it down, \"systemctl stop\" does not",
			b.Name, err, b.Name)
		return nil
	}
	return fault.Wrap("having systemd watch "+b.Name, err)
}

// handOver tells systemd that a box is up, whose master is from then on what the service of this boxrun is about. Where
// the service was told to stop just before, systemd would wait for a master whom nobody tells: this boxrun becomes again
// what the service is about, and ends as systemd's signal has it.
func handOver(ctx context.Context, b *box.Box, unit string) error {
	if !b.Master.Alive() { // systemd would take the end of a process that it never saw for a success
		return &fault.Problem{Kind: fault.ErrNotStarted, Text: b.Name + ": the box ended as it became ready"}
	}
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	_, err = daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d\nREADY=1\nSTATUS=%s", b.Master.PID, b.Where()))
	if err != nil {
		return fault.Wrap("telling systemd that "+b.Name+" is up", err)
	}
	asked := context.WithoutCancel(ctx) // the signal may have come by now
	host.awaitPast(asked, unit, "activating")
	stops, err := host.stops(asked, unit)
	if err != nil || !stops {
		return err
	}
	if _, err := daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d", os.Getpid())); err != nil {
		return fault.Wrap("telling systemd that "+b.Name+" is to stop", err)
	}
	host.awaitMain(asked, unit, os.Getpid())
	return halted(ctx)
}

// RefuseStopped ends this boxrun as systemd's signal does, if systemd has begun to stop the service of this boxrun before
// this boxrun listened: the runtime of Go takes such a signal in and drops it, and nobody says it again.
func RefuseStopped(ctx context.Context, unit string) error {
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	if stops, err := host.stops(ctx, unit); err != nil || !stops {
		return err
	}
	return halted(ctx)
}

// awaitMain waits until systemd has heard that the process is what a service is about.
func (h *Host) awaitMain(ctx context.Context, unit string, pid int) {
	ctx, cancel := context.WithTimeout(ctx, unitTimeout)
	defer cancel()
	for process.Sleep(ctx, 5*time.Millisecond) == nil {
		p, err := h.GetUnitTypePropertyContext(ctx, unit, "Service", "MainPID")
		if err != nil || p.Value.Value() == uint32(pid) {
			return
		}
	}
}

// stops reports whether systemd is stopping a service.
func (h *Host) stops(ctx context.Context, unit string) (bool, error) {
	state, err := h.activeState(ctx, unit)
	return state == "deactivating", fault.Wrap("asking systemd for "+unit, err)
}

// halted gives this boxrun the signal with which systemd stops a service, and returns the cause of the end of ctx.
func halted(ctx context.Context) error {
	if err := syscall.Kill(os.Getpid(), process.HaltSignal); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// StopOwn has systemd stop the service of this boxrun, for why: a box that is to stay down, as after a poweroff inside, is
// no failure. The error is the cause of the end of ctx, systemd's signal.
func StopOwn(ctx context.Context, s *box.Store, why error) error {
	host, err := Dial(ctx)
	if err != nil {
		return errors.Join(why, err)
	}
	defer host.Close()
	if err := host.job(ctx, (*systemdbus.Conn).StopUnitContext, s.Caller.Unit, "replace", nil); err != nil {
		return errors.Join(why, err)
	}
	s.Notef("%v", why)
	<-ctx.Done()
	return context.Cause(ctx)
}

// refresh rewrites the settings of boxrun@.service for a changed profile.
func refresh(ctx context.Context, s *box.Store, host *Host, p profiles.Profile) error {
	f := dropIn(Dir, p)
	if written, err := f.IsWritten(); written || err != nil {
		return err
	}
	unlock, err := Lock(ctx, s)
	if err != nil {
		return err
	}
	defer unlock()
	if !Enabled(p) { // disabled meanwhile
		return nil
	}
	if err := writeUnits([]files.File{f}); err != nil {
		return err
	}
	return host.reload(ctx)
}

// Disable takes back the work of Enable. was reports whether there was anything to take back. The box is left as it is:
// a running box keeps running, and is supervised, until the box goes down. Disabling the last box removes the units
// common to all. arg is a person's name for the profile; the profile may be invalid by now, or gone.
func Disable(ctx context.Context, s *box.Store, arg string) (was bool, err error) {
	if files, err := Files(); err == nil && len(files) == 0 {
		return false, nil
	}
	unlock, err := Lock(ctx, s)
	if err != nil {
		return false, err
	}
	defer unlock()
	unit := instanceOf(profiles.Word(arg))
	if !startedAtBoot(unit) {
		return false, errors.Join(removeAll(remains(unit)), sweepUnits(ctx))
	}
	host, err := hostForUnits(ctx)
	if err != nil {
		return true, err
	}
	defer host.Close()
	gone, last, err := leaving(unit)
	if err != nil {
		return true, err
	}
	if last {
		if err := host.StopRepairers(ctx); err != nil {
			return true, err
		}
	}
	if err := keepRunning(ctx, s, host, unit); err != nil {
		return true, err
	}
	if err := host.disable(ctx, gone); err != nil {
		return true, fmt.Errorf("disabling %v: %w", gone, err)
	}
	if err := removeUnits(unit, last); err != nil {
		return true, err
	}
	return true, host.reload(ctx)
}

// sweepUnits removes the common units left by a killed disable. It leaves them while a box is enabled, or while a box
// runs by them, because somebody may have enabled the box in another way.
func sweepUnits(ctx context.Context) error {
	enabled, err := enabledUnits()
	if err != nil || len(enabled) > 0 || !Booted() {
		return err
	}
	host, err := hostForUnits(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	if active, err := host.supervised(ctx); err != nil || len(active) > 0 {
		return err
	}
	files, err := Files()
	files = slices.DeleteFunc(files, func(file string) bool {
		return !strings.HasPrefix(file, Dir+"/") || strings.Contains(file, ".service.d")
	})
	if err != nil || len(files) == 0 {
		return err
	}
	return errors.Join(host.StopRepairers(ctx), RemoveFiles(ctx, files))
}

// leaving returns the units to disable together with this unit, and whether this unit is the last.
func leaving(unit string) (units []string, last bool, err error) {
	enabled, err := enabledUnits()
	if err != nil {
		return nil, false, err
	}
	if slices.ContainsFunc(enabled, func(other string) bool { return other != unit }) {
		return []string{unit}, false, nil
	}
	return append(Repairers(), unit), true, nil
}

// keepRunning copies to /run what systemd needs for an orderly stop of the running box, and of any other box of the
// template.
func keepRunning(ctx context.Context, s *box.Store, host *Host, unit string) error {
	active, err := host.supervised(ctx)
	if err != nil || len(active) == 0 {
		return err
	}
	shared, err := sharedUnits(s, unitRunDir)
	if err != nil {
		return err
	}
	kept := shared[:1]
	conf, err := files.ReadIfThere(dropInPath(Dir, unit))
	if err != nil {
		return fmt.Errorf("reading unit: %w", err)
	}
	isUnit := func(u systemdbus.UnitStatus) bool { return u.Name == unit }
	if conf != "" && slices.ContainsFunc(active, isUnit) {
		kept = append(kept, unitFile(dropInPath(unitRunDir, unit), conf))
	}
	return writeUnits(kept)
}

// Kept returns the removal of what keepRunning has left for a box, and for all boxes with the last of them; nil if there
// is nothing. systemd needs no file for the end of a service.
func Kept(b *box.Box) []files.Removal {
	conf := dropInPath(unitRunDir, Instance(b.Profile))
	all, _ := filepath.Glob(dropInPath(unitRunDir, "boxrun@*.service")) // the pattern is well-formed
	if !slices.Contains(all, conf) {
		return nil
	}
	gone := []string{conf}
	if len(all) == 1 {
		gone = append(gone, filepath.Join(unitRunDir, templateUnit))
	}
	return []files.Removal{{Paths: gone}, {Paths: []string{filepath.Dir(conf)}, IfEmpty: true}}
}

// supervised returns the services of boxes that systemd supervises, or is about to.
func (h *Host) supervised(ctx context.Context) (active []systemdbus.UnitStatus, err error) {
	err = h.Ask(ctx, func(ctx context.Context) (err error) {
		states := []string{"active", "activating", "deactivating", "reloading"}
		active, err = h.ListUnitsByPatternsContext(ctx, states, []string{"boxrun@*.service"})
		return err
	})
	return active, fault.Wrap("listing boxes that systemd watches", err)
}

// removeUnits removes the files of a disabled box. After the last box, removeUnits removes the common files too.
func removeUnits(unit string, last bool) error {
	conf := dropInPath(Dir, unit)
	gone := append([]string{conf}, remains(unit)...)
	if last {
		for _, template := range []string{templateUnit, repairTemplate, watchTemplate} {
			file := filepath.Join(Dir, template)
			gone = append(gone, file, files.Unfinished(file))
		}
	}
	return removeAll(gone)
}

// remains are what an enable cut short may leave of a unit's settings: the file that was being written, and the directory.
func remains(unit string) []string {
	conf := dropInPath(Dir, unit)
	return []string{files.Unfinished(conf), filepath.Dir(conf)}
}
