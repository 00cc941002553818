package netsetup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// firewalld keeps nftables chains of its own. The chains reject what is forwarded, whatever iptables accepts, except
// for devices in a zone that lets forwarded packets pass. A bridge outside the permanent configuration is bound at run
// time to the zone trusted, and then boxes reach all ports of the host.
const (
	zoneName    = "boxrun"
	policyName  = "boxrun-out" // firewalld wants zones and policies to differ in name
	trustedZone = "trusted"
)

// serviceTimeout bounds each call; firewalld's reload of many rules takes seconds.
const serviceTimeout = 30 * time.Second

// busTimeout bounds questions to D-Bus itself: D-Bus answers at once, or hangs.
const busTimeout = 5 * time.Second

// zoneText is the permanent zone: what its devices send to the host is rejected, ping and published ports excepted.
func zoneText(bridges []string) string {
	text := "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<zone>\n  <short>boxrun</short>\n" +
		"  <description>" + setupMark + "; boxrun host reset removes it. The bridges of boxes.</description>\n"
	for _, b := range bridges {
		text += fmt.Sprintf("  <interface name=%q/>\n", b)
	}
	return text + "  <forward/>\n</zone>\n"
}

// policyText is the permanent policy by which boxes get out.
func policyText() string {
	return "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<policy target=\"ACCEPT\">\n  <short>boxrun-out</short>\n" +
		"  <description>" + setupMark + "; boxrun host reset removes it. Lets boxes out.</description>\n" +
		"  <ingress-zone name=\"boxrun\"/>\n  <egress-zone name=\"ANY\"/>\n</policy>\n"
}

// Zone is the step that has firewalld let a bridge's traffic pass, as long as firewalld runs. A bridge in no zone goes
// into the setup's zone or, without a setup, into trusted. A zone chosen by the administrator stays.
type Zone struct {
	Device string `json:"device"`
	Before string `json:"before,omitempty"` // the bridge's zone before, "" for none
}

func (z *Zone) String() string { return "firewalld's zone of " + z.Device }

// commands do nothing where firewalld does not run or is not installed.
func (z *Zone) commands() (up, down []string) {
	const unbound = "if firewall-cmd -q --state 2>/dev/null &&" +
		" ! firewall-cmd -q%s --get-zone-of-interface=%s 2>/dev/null; then\n"
	up = []string{fmt.Sprintf(unbound+"  firewall-cmd -q --zone=%s --change-interface=%[2]s 2>/dev/null ||"+
		" firewall-cmd -q --zone=%[4]s --change-interface=%[2]s\nfi", "", z.Device, zoneName, trustedZone)}
	if z.Before != "" {
		return up, nil
	}
	return up, []string{fmt.Sprintf(unbound+"  firewall-cmd -q --zone=$(firewall-cmd --get-zone-of-interface=%[2]s)"+
		" --remove-interface=%[2]s\nfi", " --permanent", z.Device)}
}

func (z *Zone) record(k *Kernel) error {
	return k.withFirewalld(func(f *firewalld) (err error) {
		z.Before, err = f.zoneOf(z.Device)
		return err
	})
}

func (z *Zone) check(k *Kernel) (drift []string, err error) {
	err = k.withFirewalld(func(f *firewalld) error {
		zone, err := f.zoneOf(z.Device)
		if err == nil && zone == "" {
			drift = []string{fmt.Sprintf("%s is in no zone of firewalld, which rejects what its boxes send", z.Device)}
		}
		return err
	})
	return drift, err
}

func (z *Zone) ensure(k *Kernel) error {
	return k.withFirewalld(func(f *firewalld) error {
		zones, err := f.list(zoneInterface + ".getZones")
		if err != nil {
			return err
		}
		zone := trustedZone
		if slices.Contains(zones, zoneName) {
			zone = zoneName
		}
		return f.call(nil, zoneInterface+".changeZoneOfInterface", zone, z.Device)
	})
}

// undo takes the bridge out of the zone chosen by ensure. A zone of the permanent configuration is somebody else's
// wish.
func (z *Zone) undo(k *Kernel) error {
	if z.Before != "" {
		return nil
	}
	return k.withFirewalld(func(f *firewalld) error {
		zone, err := f.zoneOf(z.Device)
		if err != nil || zone != trustedZone && zone != zoneName {
			return err
		}
		permanent, err := f.permanentZoneOf(z.Device)
		if err != nil || permanent == zone {
			return err
		}
		return f.call(nil, zoneInterface+".removeInterface", zone, z.Device)
	})
}

// FirewalldView is how a running firewalld treats a bridge.
type FirewalldView struct {
	Zone        string // the bridge's; "" for none
	Trusting    bool   // the zone lets its devices reach every port of the host
	StrictPorts bool   // only its own forwarded ports may be reached, and nobody else's
}

// LookFirewalld returns how firewalld treats a bridge; nil where no firewalld runs.
func LookFirewalld(bridge string) (*FirewalldView, error) {
	var view *FirewalldView
	k := &Kernel{} // of D-Bus alone
	defer k.closeBus()
	err := k.withFirewalld(func(f *firewalld) (err error) {
		v := FirewalldView{}
		if v.Zone, err = f.zoneOf(bridge); err != nil {
			return err
		}
		v.Trusting = v.Zone == trustedZone
		v.StrictPorts, err = f.strictPorts()
		view = &v
		return err
	})
	return view, err
}

// PermanentZone is the step that makes bridges a zone of firewalld's permanent configuration. A running firewalld
// takes the zone in.
type PermanentZone struct {
	Zone    File     `json:"zone"`
	Policy  File     `json:"policy"`
	Bridges []string `json:"bridges"`
}

func (p *PermanentZone) String() string { return "firewalld's zone " + zoneName }

const reloadCommand = "! firewall-cmd -q --state 2>/dev/null || firewall-cmd -q --reload"

func (p *PermanentZone) commands() (up, down []string) {
	zoneUp, zoneDown := p.Zone.commands()
	policyUp, policyDown := p.Policy.commands()
	return append(append(zoneUp, policyUp...), reloadCommand), append(append(policyDown, zoneDown...), reloadCommand)
}

// record refuses what ensure could not do without harm to others: to reload a firewalld that runs with other settings
// than its permanent settings.
func (p *PermanentZone) record(k *Kernel) error {
	for _, f := range []*File{&p.Zone, &p.Policy} {
		if err := f.record(k); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	drift, err := p.check(k)
	if len(drift) == 0 || err != nil {
		return err
	}
	return k.withFirewalld((*firewalld).reloadable)
}

func (p *PermanentZone) check(k *Kernel) ([]string, error) {
	zone, err := p.Zone.check(k)
	policy, policyErr := p.Policy.check(k)
	drift := slices.Concat(zone, policy)
	runErr := k.withFirewalld(func(f *firewalld) error {
		lines, err := p.notTaken(f)
		drift = append(drift, lines...)
		return err
	})
	return drift, errors.Join(err, policyErr, runErr)
}

// notTaken tells what the running firewalld has not taken in.
func (p *PermanentZone) notTaken(f *firewalld) ([]string, error) {
	policies, err := f.list(FirewalldName + ".policy.getPolicies")
	if err != nil {
		return nil, err
	}
	var lines []string
	if !slices.Contains(policies, policyName) {
		lines = append(lines, "firewalld has not taken in the policy "+policyName)
	}
	for _, bridge := range p.Bridges {
		zone, err := f.zoneOf(bridge)
		if err != nil {
			return nil, err
		}
		if zone != zoneName {
			lines = append(lines, fmt.Sprintf("firewalld has %s in the zone %q instead of %s", bridge, zone, zoneName))
		}
	}
	return lines, nil
}

func (p *PermanentZone) ensure(k *Kernel) error {
	f, err := k.firewalld(busTimeout)
	if err != nil {
		return err
	}
	if f != nil {
		err = f.reloadable()
	}
	if err == nil {
		err = errors.Join(p.Zone.ensure(k), p.Policy.ensure(k))
	}
	if f == nil || err != nil {
		return err
	}
	return f.reload(p.Bridges)
}

// undo removes the files, and makes a running firewalld forget the zone.
func (p *PermanentZone) undo(k *Kernel) error {
	files := errors.Join(p.Policy.undo(k), p.Zone.undo(k))
	return errors.Join(files, k.withFirewalld(func(f *firewalld) error {
		zones, err := f.list(zoneInterface + ".getZones")
		if err != nil || !slices.Contains(zones, zoneName) {
			return err
		}
		if err := f.reloadable(); err != nil {
			return err
		}
		return f.reload(nil)
	}))
}

// FirewalldName is firewalld's name on D-Bus, and the name of its interface.
const FirewalldName = "org.fedoraproject.FirewallD1"

const (
	firewalldPath   = "/org/fedoraproject/FirewallD1"
	zoneInterface   = FirewalldName + ".zone"
	policyInterface = FirewalldName + ".policy"
	configInterface = FirewalldName + ".config"
	configPath      = firewalldPath + "/config"
)

// firewalld is a running firewalld, on the system bus.
type firewalld struct{ bus *dbus.Conn }

// withFirewalld calls do where the firewalld of this network namespace runs. Where D-Bus does not answer, nobody knows
// whether firewalld runs, and withFirewalld returns an error.
func (k *Kernel) withFirewalld(do func(*firewalld) error) error {
	f, err := k.firewalld(busTimeout)
	if f == nil || err != nil {
		return err
	}
	return do(f)
}

// firewalld returns nil where no firewalld runs.
func (k *Kernel) firewalld(limit time.Duration) (*firewalld, error) {
	bus, err := k.service(FirewalldName, limit)
	if bus == nil || err != nil {
		return nil, err
	}
	return &firewalld{bus}, nil
}

// service returns the system bus where a service of this network namespace has the name there, and nil where none has.
// The Kernel keeps the connection to D-Bus.
func (k *Kernel) service(name string, limit time.Duration) (*dbus.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("asking for %s: %w", name, errBusHangs))
	defer cancel()
	if k.bus == nil || !k.bus.Connected() {
		bus, err := dialBus(ctx, dbus.ConnectSystemBus)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, nil //nolint:nilerr // a host without a bus has no services
		}
		k.bus = bus
	}
	runs, err := runsHere(ctx, k.bus, name)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil || !runs {
		return nil, err
	}
	return k.bus, nil
}

// awaitFirewalld waits until firewalld has nothing left to flush. A firewalld that starts takes its name on the bus first,
// then flushes rules, those of others too, and answers when it has started: half a second later with firewalld 0.8 to
// 1.3. An error is left to the steps that need firewalld, and after an error nobody waits again.
func (k *Kernel) awaitFirewalld() {
	if k.awaited || k.unheard {
		return
	}
	k.awaited = true
	err := k.withFirewalld(func(f *firewalld) error {
		return f.callAt(firewalldPath, nil, "org.freedesktop.DBus.Properties.Get", FirewalldName, "state")
	})
	k.unheard = err != nil
}

func (k *Kernel) closeBus() {
	if k.bus != nil {
		_ = k.bus.Close() // nothing is left to be said
	}
}

// errBusHangs is the error of a D-Bus that takes a connection and then falls silent.
var errBusHangs = errors.New("D-Bus does not answer")

// dialBus connects to a bus by dial, such as dbus.ConnectSystemBus, before ctx ends. The end of ctx after dialBus has
// returned does not matter to the connection. The library has no time limit for connecting, but closes the connection,
// and so ends any wait, when the context of the connection's whole life ends.
func dialBus(ctx context.Context, dial func(...dbus.ConnOption) (*dbus.Conn, error)) (*dbus.Conn, error) {
	life, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	bus, err := dial(dbus.WithContext(life))
	if err == nil && !stop() {
		_ = bus.Close() // too late
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, err
	}
	return bus, nil
}

// runsHere reports whether a service is on the bus and looks after this network namespace. The bus of containers shows
// the host's services, too, where containers see the host's bus.
func runsHere(ctx context.Context, bus *dbus.Conn, name string) (bool, error) {
	ask := func(question string, answer any) error {
		return bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus."+question, 0, name).Store(answer)
	}
	var owned bool
	if err := ask("NameHasOwner", &owned); err != nil || !owned {
		return false, err
	}
	var pid uint32
	if err := ask("GetConnectionUnixProcessID", &pid); err != nil {
		return false, err
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return false, ignoreAbsent(err) // the process is of another PID namespace, or has just ended
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	return ours == theirs, err
}

// call calls a method of firewalld's and stores the answer in result, unless result is nil.
func (f *firewalld) call(result any, method string, args ...any) error {
	return f.callAt(firewalldPath, result, method, args...)
}

func (f *firewalld) callAt(path dbus.ObjectPath, result any, method string, args ...any) error {
	return callService(f.bus, FirewalldName, path, result, method, args...)
}

// callService calls a method of a service and stores the answer in result, unless result is nil.
func callService(
	bus *dbus.Conn, name string, path dbus.ObjectPath, result any, method string, args ...any,
) error {
	ctx, cancel := context.WithTimeout(context.Background(), serviceTimeout)
	defer cancel()
	call := bus.Object(name, path).CallWithContext(ctx, method, 0, args...)
	if call.Err == nil && result != nil {
		call.Err = call.Store(result)
	}
	if call.Err != nil {
		return fmt.Errorf("calling %s: %w", method, call.Err)
	}
	return nil
}

func (f *firewalld) list(method string) (names []string, err error) {
	return names, f.call(&names, method)
}

// zoneOf returns the present zone of a device, "" for none: then the default zone rules, and forwards nothing.
func (f *firewalld) zoneOf(device string) (zone string, err error) {
	return zone, f.call(&zone, zoneInterface+".getZoneOfInterface", device)
}

// permanentZoneOf returns the zone of a device after the next reload.
func (f *firewalld) permanentZoneOf(device string) (zone string, err error) {
	return zone, f.callAt(configPath, &zone, configInterface+".getZoneOfInterface", device)
}

// strictPorts reports whether firewalld rejects what others' rules have forwarded. An older firewalld has no such
// setting.
func (f *firewalld) strictPorts() (bool, error) {
	var v dbus.Variant
	err := f.callAt(configPath, &v, "org.freedesktop.DBus.Properties.Get", configInterface, "StrictForwardPorts")
	var e dbus.Error
	if errors.As(err, &e) {
		return false, nil
	}
	return v.Value() == "yes", err
}

// reload makes firewalld read its permanent configuration. Devices bound to zones at run time stay there; bridges go
// into boxrun's zone.
func (f *firewalld) reload(bridges []string) error {
	bound, err := f.bindings()
	if err != nil {
		return err
	}
	for _, bridge := range bridges {
		bound[bridge] = zoneName
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
		if now[device] != bound[device] && (bound[device] != zoneName || len(bridges) > 0) {
			errs = append(errs, f.call(nil, zoneInterface+".changeZoneOfInterface", bound[device], device))
		}
	}
	return errors.Join(errs...)
}

// bindings returns the zones of devices.
func (f *firewalld) bindings() (map[string]string, error) {
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

// reloadable returns an error where a reload would drop what somebody has set at run time only, or take in what
// somebody has left for later.
func (f *firewalld) reloadable() error {
	var differ []string
	for _, kind := range []struct{ list, get, byName, getPermanent string }{
		{zoneInterface + ".getZones", zoneInterface + ".getZoneSettings2",
			configInterface + ".getZoneByName", configInterface + ".zone.getSettings2"},
		{policyInterface + ".getPolicies", policyInterface + ".getPolicySettings",
			configInterface + ".getPolicyByName", configInterface + ".policy.getSettings"},
	} {
		names, err := f.list(kind.list)
		if err != nil {
			return err
		}
		for _, name := range names {
			if name == zoneName || name == policyName {
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
func (f *firewalld) same(name, get, byName, getPermanent string) (bool, error) {
	var running, permanent map[string]dbus.Variant
	if err := f.call(&running, get, name); err != nil {
		return false, err
	}
	var path dbus.ObjectPath
	if err := f.callAt(configPath, &path, byName, name); err != nil {
		return false, err
	}
	if err := f.callAt(path, &permanent, getPermanent); err != nil {
		return false, err
	}
	for _, settings := range []map[string]dbus.Variant{running, permanent} {
		for _, key := range []string{"interfaces", "version", "short", "description"} {
			delete(settings, key)
		}
	}
	return fmt.Sprint(running) == fmt.Sprint(permanent), nil // maps are printed in order
}
