package bus

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// FirewalldName is firewalld's name on D-Bus, and the name of its interface.
const FirewalldName = "org.fedoraproject.FirewallD1"

const (
	firewalldPath   = "/org/fedoraproject/FirewallD1"
	zoneInterface   = FirewalldName + ".zone"
	policyInterface = FirewalldName + ".policy"
	configInterface = FirewalldName + ".config"
	configPath      = firewalldPath + "/config"
)

// Firewalld is a running firewalld.
type Firewalld struct{ service *Service }

// Firewalld returns the firewalld of this network namespace, and nil where none runs.
func (b *Bus) Firewalld() (*Firewalld, error) {
	service, err := b.Find(FirewalldName)
	if service == nil || err != nil {
		return nil, err
	}
	return &Firewalld{service}, nil
}

// Await waits until firewalld answers. A firewalld that starts takes its name on the bus first, then flushes rules, those
// of others too, and answers when it has started: half a second later with firewalld 0.8 to 1.3.
func (f *Firewalld) Await() error {
	return f.call(nil, "org.freedesktop.DBus.Properties.Get", FirewalldName, "state")
}

// call calls a method and stores the answer in result, unless result is nil.
func (f *Firewalld) call(result any, method string, args ...any) error {
	return f.service.Call(firewalldPath, result, method, args...)
}

// Zones returns the names of the present zones.
func (f *Firewalld) Zones() (names []string, err error) {
	return names, f.call(&names, zoneInterface+".getZones")
}

// Policies returns the names of the present policies.
func (f *Firewalld) Policies() (names []string, err error) {
	return names, f.call(&names, policyInterface+".getPolicies")
}

// ChangeZone binds a device to a zone until the next restart of firewalld.
func (f *Firewalld) ChangeZone(zone, device string) error {
	return f.call(nil, zoneInterface+".changeZoneOfInterface", zone, device)
}

// RemoveDevice takes a device out of its present zone.
func (f *Firewalld) RemoveDevice(zone, device string) error {
	return f.call(nil, zoneInterface+".removeInterface", zone, device)
}

// ZoneOf returns the present zone of a device, "" for none: then the default zone rules, and forwards nothing.
func (f *Firewalld) ZoneOf(device string) (zone string, err error) {
	return zone, f.call(&zone, zoneInterface+".getZoneOfInterface", device)
}

// PermanentZoneOf returns the zone of a device after the next reload.
func (f *Firewalld) PermanentZoneOf(device string) (zone string, err error) {
	return zone, f.service.Call(configPath, &zone, configInterface+".getZoneOfInterface", device)
}

// StrictPorts reports whether firewalld rejects what others' rules have forwarded. An older firewalld has no such
// setting.
func (f *Firewalld) StrictPorts() (bool, error) {
	var v dbus.Variant
	err := f.service.Call(configPath, &v, "org.freedesktop.DBus.Properties.Get", configInterface, "StrictForwardPorts")
	var e dbus.Error
	if errors.As(err, &e) {
		return false, nil
	}
	return v.Value() == "yes", err
}

// Reload makes firewalld read its permanent configuration. Devices bound to zones at run time stay there, and bridges go
// into zone.
func (f *Firewalld) Reload(zone string, bridges []string) error {
	bound, err := f.bindings()
	if err != nil {
		return err
	}
	for _, bridge := range bridges {
		bound[bridge] = zone
	}
	if err := f.call(nil, FirewalldName+".reload"); err != nil {
		return err
	}
	now, err := f.bindings()
	if err != nil {
		return err
	}
	var errs []error
	for _, device := range slices.Sorted(maps.Keys(bound)) {
		if now[device] != bound[device] && (bound[device] != zone || len(bridges) > 0) {
			errs = append(errs, f.ChangeZone(bound[device], device))
		}
	}
	return errors.Join(errs...)
}

// bindings returns the zones of devices.
func (f *Firewalld) bindings() (map[string]string, error) {
	var active map[string]map[string][]string
	if err := f.call(&active, zoneInterface+".getActiveZones"); err != nil {
		return nil, err
	}
	bound := map[string]string{}
	for zone, has := range active {
		for _, device := range has["interfaces"] {
			bound[device] = zone
		}
	}
	return bound, nil
}

// Reloadable returns an error where a reload would drop what somebody has set at run time only, or take in what
// somebody has left for later, in zones and policies but those excepted.
func (f *Firewalld) Reloadable(except ...string) error {
	var differ []string
	for _, kind := range []struct {
		list                      func() ([]string, error)
		get, byName, getPermanent string
	}{
		{f.Zones, zoneInterface + ".getZoneSettings2",
			configInterface + ".getZoneByName", configInterface + ".zone.getSettings2"},
		{f.Policies, policyInterface + ".getPolicySettings",
			configInterface + ".getPolicyByName", configInterface + ".policy.getSettings"},
	} {
		names, err := kind.list()
		if err != nil {
			return err
		}
		for _, name := range names {
			if slices.Contains(except, name) {
				continue
			}
			same, err := f.same(name, kind.get, kind.byName, kind.getPermanent)
			if err != nil {
				return err
			}
			if !same {
				differ = append(differ, name)
			}
		}
	}
	if len(differ) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnsaved, strings.Join(differ, ", "))
}

// ErrUnsaved is in the chain of the error where firewalld would have to be reloaded, and what runs of these zones or
// policies is not what is configured.
var ErrUnsaved = errors.New(
	"firewalld runs with other settings than its permanent ones, and a reload would change them")

// same reports whether a zone or policy runs as configured, devices aside: many programs bind devices at run time.
func (f *Firewalld) same(name, get, byName, getPermanent string) (bool, error) {
	var running, permanent map[string]dbus.Variant
	if err := f.call(&running, get, name); err != nil {
		return false, err
	}
	var path dbus.ObjectPath
	if err := f.service.Call(configPath, &path, byName, name); err != nil {
		return false, err
	}
	if err := f.service.Call(string(path), &permanent, getPermanent); err != nil {
		return false, err
	}
	for _, settings := range []map[string]dbus.Variant{running, permanent} {
		for _, key := range []string{"interfaces", "version", "short", "description"} {
			delete(settings, key)
		}
	}
	return fmt.Sprint(running) == fmt.Sprint(permanent), nil // maps are printed in order
}
