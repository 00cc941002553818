package units

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/profiles"
)

// A box with health.interval is looked at by "boxrun health NAME", which a transient timer starts. The timer is bound to
// the box's service, so it ends with the box, however the box ends. Transient units survive a reload of systemd, and no
// file is to be taken away. The @ keeps the names apart from those of boxes.

// lookUnit returns the name of the units that look at a box, without the suffix.
func lookUnit(name string) string { return "boxrun-health@" + name }

// lookUnits returns the units that look at a box.
func lookUnits(name string) []string {
	return []string{lookUnit(name) + ".timer", lookUnit(name) + ".service"}
}

// The level of boxrun's own lines in the journal, and the lowest one to be kept: systemd tells of each start and end of a
// service a level below.
const noticeLevel = int32(5)

// startLimit is the property for how often a service may start: by default five times in 10 s, which are too few looks.
const startLimit = "StartLimitIntervalUSec"

// monotonic is systemd's a(st): settings of a timer.
type monotonic struct {
	Base string
	USec uint64
}

// lookTimer returns the properties of the timer for a box.
func lookTimer(b *box.Box) []systemdbus.Property {
	every := b.Profile.Health.Interval
	properties := []systemdbus.Property{
		systemdbus.PropDescription("looks at box " + b.Name + " of boxrun"),
		property("TimersMonotonic", []monotonic{
			{"OnActiveSec", uint64(every.Microseconds())}, {"OnUnitActiveSec", uint64(every.Microseconds())},
		}),
		property("AccuracyUSec", uint64(min(every/10, time.Second).Microseconds())),
	}
	if b.Unit == "" {
		return properties
	}
	return append(properties, systemdbus.PropBindsTo(b.Unit), systemdbus.PropAfter(b.Unit))
}

// lookService returns the properties of the service for one look at a box.
func lookService(s *box.Store, b *box.Box) ([]systemdbus.Property, error) {
	argv, err := ownCommand(s, "health", b.Name)
	if err != nil {
		return nil, err
	}
	properties := quietService("look at box "+b.Name+" of boxrun", argv, b.Profile.Health.Timeout+stopGrace)
	return append(properties, property(startLimit, uint64(0))), nil
}

// quietService returns the properties of a service that runs a command of boxrun's to its end. The journal has the lines of
// boxrun and failures of the service, but not each start and end.
func quietService(description string, argv []string, timeout time.Duration) []systemdbus.Property {
	return []systemdbus.Property{
		systemdbus.PropDescription(description),
		systemdbus.PropType("oneshot"),
		execProperty("ExecStart", argv),
		property("TimeoutStartUSec", uint64(timeout.Microseconds())),
		property("SyslogIdentifier", "boxrun"),
		property("SyslogLevel", noticeLevel),
		property("LogLevelMax", noticeLevel),
		systemdbus.PropSlice("system.slice"), // and not one for all instances, which would stay
		property("CollectMode", "inactive-or-failed"),
	}
}

// StartLooks has systemd look at a box from now on, and reports whether systemd did not. Looks that go on already go on.
func StartLooks(ctx context.Context, s *box.Store, b *box.Box) (started bool, err error) {
	service, err := lookService(s, b)
	if err != nil {
		return false, err
	}
	host, err := Dial(ctx)
	if err != nil {
		return false, err
	}
	defer host.Close()
	timer := lookUnit(b.Name) + ".timer"
	if state, err := host.activeState(ctx, timer); err != nil || state == "active" {
		return false, err
	}
	if err := host.refuseMasked(ctx, lookUnits(b.Name)); err != nil {
		return false, err
	}
	err = host.startTimer(ctx, timer, lookTimer(b), systemdbus.PropertyCollection{Name: lookUnit(b.Name) + ".service", Properties: service})
	return err == nil, err
}

// refuseMasked returns an error for each unit that somebody has masked. systemd starts no other unit of the name, and only
// says that there is one.
func (h *Host) refuseMasked(ctx context.Context, units []string) error {
	return fault.Each(units, func(unit string) error {
		state, err := h.unitProperty(ctx, unit, "UnitFileState")
		if err != nil {
			return fault.Wrap("asking systemd for "+unit, err)
		}
		unmask := map[string]string{"masked": "systemctl unmask ", "masked-runtime": "systemctl unmask --runtime "}[state]
		if unmask == "" {
			return nil
		}
		return fmt.Errorf("%s is masked: %q takes that back", unit, unmask+unit)
	})
}

// StoppedLooks says that systemd did not look at a box.
func StoppedLooks(name string) string { return lookUnit(name) + ".timer was not active" }

// startTimer starts a transient timer with its service. The remains of an earlier timer are stopped first.
func (h *Host) startTimer(
	ctx context.Context, unit string, timer []systemdbus.Property, service systemdbus.PropertyCollection,
) error {
	return h.untilFree(ctx, []string{unit, service.Name}, func(ctx context.Context) error {
		_, err := h.StartTransientUnitAux(ctx, unit, "fail", timer, []systemdbus.PropertyCollection{service}, nil)
		if isBusError(err, "UnitExists") || err == nil {
			return err
		}
		service.Properties = slices.DeleteFunc(service.Properties, func(p systemdbus.Property) bool { return p.Name == startLimit })
		_, oldErr := h.StartTransientUnitAux(ctx, unit, "fail", olderTimer(timer), []systemdbus.PropertyCollection{service}, nil)
		if oldErr != nil {
			return err
		}
		return nil
	})
}

// olderTimer returns the properties for a systemd before 243, which knows each time of a timer as a property, and has no
// limit of starts for units made by a call.
func olderTimer(properties []systemdbus.Property) []systemdbus.Property {
	var older []systemdbus.Property
	for _, p := range properties {
		times, is := p.Value.Value().([]monotonic)
		if !is {
			older = append(older, p)
		}
		for _, t := range times {
			older = append(older, property(t.Base, t.USec))
		}
	}
	return older
}

// StopLooks ends the looks at a box of which nothing is left.
func StopLooks(ctx context.Context, name string) error {
	if !Booted() {
		return nil
	}
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	return host.stop(ctx, lookUnit(name)+".timer").Wait(ctx)
}

// StartRestart has systemd start a box anew, in a service of its own: the service of the look goes with the box. A restart
// that goes on already is enough.
func StartRestart(ctx context.Context, s *box.Store, b *box.Box) error {
	argv, err := ownCommand(s, "health", "--restart", b.Name)
	if err != nil {
		return err
	}
	timeout := b.Profile.Systemd.StopTimeout + 2*stopGrace + startTimeout(b.Profile)
	properties := append(quietService("restart of box "+b.Name+" of boxrun", argv, timeout), property("KillMode", "process"))
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	unit := "boxrun-restart@" + b.Name + ".service"
	err = host.Ask(ctx, func(ctx context.Context) error {
		_, err := host.StartTransientUnitContext(ctx, unit, "fail", properties, nil)
		return err
	})
	if isBusError(err, "UnitExists") {
		return nil
	}
	return fault.Wrap("starting "+unit, err)
}

// failureUnit returns the unit of the host that a profile wants to be started on a failure of its box; "" for none. A
// template becomes the instance with the box's name.
func failureUnit(p profiles.Profile) string {
	return strings.Replace(p.Health.OnFailure, "@.", "@"+p.Name+".", 1)
}

// StartFailureUnit has systemd start health.on_failure of a box, if the profile has it.
func StartFailureUnit(ctx context.Context, p profiles.Profile) error {
	unit := failureUnit(p)
	if unit == "" || !Booted() {
		return nil
	}
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	return fault.Wrap("starting "+unit, host.start(ctx, unit))
}

// RefuseFailureUnit refuses a health.on_failure that the host does not have. Nobody would hear of the failure later.
func RefuseFailureUnit(ctx context.Context, p profiles.Profile) error {
	unit := failureUnit(p)
	if unit == "" || !Booted() {
		return nil
	}
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	load, err := host.unitProperty(ctx, unit, "LoadState")
	if err != nil || load == "loaded" {
		return fault.Wrap("asking systemd for "+unit, err)
	}
	return fault.Refused(fmt.Sprintf("write the unit, then \"systemctl daemon-reload\"; or take health.on_failure out of %s", p.File),
		"%s: health.on_failure: systemd says of %s: %s", p.File, unit, load)
}

// LookCommand returns the command that has systemd look at a box, as StartLooks does; none if nobody is to look.
func LookCommand(s *box.Store, b *box.Box) ([]string, error) {
	if b.Profile.Health.Interval == 0 || !Booted() {
		return nil, nil
	}
	service, err := lookService(s, b)
	return []string{typedLooks(b, service)}, err
}

// StopLooksCommand returns the command that ends the looks at a box; none if nobody looks.
func StopLooksCommand(b *box.Box) []string {
	if b.Profile.Health.Interval == 0 || !Booted() {
		return nil
	}
	return []string{"systemctl stop " + strings.Join(lookUnits(b.Name), " ")}
}

func typedLooks(b *box.Box, service []systemdbus.Property) string {
	words := []string{"systemd-run", "-q", "--unit=" + lookUnit(b.Name)}
	for _, p := range olderTimer(lookTimer(b)) {
		if p.Name != "Description" {
			words = append(words, "--timer-property="+runArguments(p)[1])
		}
	}
	return systemdRunWith(words, service)
}
