package netsetup

import (
	"errors"
	"fmt"
	"slices"

	"boxrun/netsetup/bus"
)

// firewalld keeps nftables chains of its own. The chains reject what is forwarded, whatever iptables accepts, except
// for devices in a zone that lets forwarded packets pass. A bridge outside the permanent configuration is bound at run
// time to the zone trusted, and then boxes reach all ports of the host.
const (
	zoneName    = "boxrun"
	policyName  = "boxrun-out" // firewalld wants zones and policies to differ in name
	trustedZone = "trusted"
)

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
	return k.withFirewalld(func(f *bus.Firewalld) (err error) {
		z.Before, err = f.ZoneOf(z.Device)
		return err
	})
}

func (z *Zone) check(k *Kernel) (drift []string, err error) {
	err = k.withFirewalld(func(f *bus.Firewalld) error {
		zone, err := f.ZoneOf(z.Device)
		if err == nil && zone == "" {
			drift = []string{fmt.Sprintf("%s is in no zone of firewalld, which rejects what its boxes send", z.Device)}
		}
		return err
	})
	return drift, err
}

func (z *Zone) ensure(k *Kernel) error {
	return k.withFirewalld(func(f *bus.Firewalld) error {
		zones, err := f.Zones()
		if err != nil {
			return err
		}
		zone := trustedZone
		if slices.Contains(zones, zoneName) {
			zone = zoneName
		}
		return f.ChangeZone(zone, z.Device)
	})
}

// undo takes the bridge out of the zone chosen by ensure. A zone of the permanent configuration is somebody else's
// wish.
func (z *Zone) undo(k *Kernel) error {
	if z.Before != "" {
		return nil
	}
	return k.withFirewalld(func(f *bus.Firewalld) error {
		zone, err := f.ZoneOf(z.Device)
		if err != nil || zone != trustedZone && zone != zoneName {
			return err
		}
		permanent, err := f.PermanentZoneOf(z.Device)
		if err != nil || permanent == zone {
			return err
		}
		return f.RemoveDevice(zone, z.Device)
	})
}

// reloadable returns an error where a reload would change what others have set.
func reloadable(f *bus.Firewalld) error { return f.Reloadable(zoneName, policyName) }

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
	defer k.bus.Close()
	err := k.withFirewalld(func(f *bus.Firewalld) (err error) {
		v := FirewalldView{}
		if v.Zone, err = f.ZoneOf(bridge); err != nil {
			return err
		}
		v.Trusting = v.Zone == trustedZone
		v.StrictPorts, err = f.StrictPorts()
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
	return k.withFirewalld(reloadable)
}

func (p *PermanentZone) check(k *Kernel) ([]string, error) {
	zone, err := p.Zone.check(k)
	policy, policyErr := p.Policy.check(k)
	drift := slices.Concat(zone, policy)
	runErr := k.withFirewalld(func(f *bus.Firewalld) error {
		lines, err := p.notTaken(f)
		drift = append(drift, lines...)
		return err
	})
	return drift, errors.Join(err, policyErr, runErr)
}

// notTaken tells what the running firewalld has not taken in.
func (p *PermanentZone) notTaken(f *bus.Firewalld) ([]string, error) {
	policies, err := f.Policies()
	if err != nil {
		return nil, err
	}
	var lines []string
	if !slices.Contains(policies, policyName) {
		lines = append(lines, "firewalld has not taken in the policy "+policyName)
	}
	for _, bridge := range p.Bridges {
		zone, err := f.ZoneOf(bridge)
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
	f, err := k.bus.Firewalld()
	if err != nil {
		return err
	}
	if f != nil {
		err = reloadable(f)
	}
	if err == nil {
		err = errors.Join(p.Zone.ensure(k), p.Policy.ensure(k))
	}
	if f == nil || err != nil {
		return err
	}
	return f.Reload(zoneName, p.Bridges)
}

// undo removes the files, and makes a running firewalld forget the zone.
func (p *PermanentZone) undo(k *Kernel) error {
	files := errors.Join(p.Policy.undo(k), p.Zone.undo(k))
	return errors.Join(files, k.withFirewalld(func(f *bus.Firewalld) error {
		zones, err := f.Zones()
		if err != nil || !slices.Contains(zones, zoneName) {
			return err
		}
		if err := reloadable(f); err != nil {
			return err
		}
		return f.Reload(zoneName, nil)
	}))
}

// withFirewalld calls do where firewalld runs.
func (k *Kernel) withFirewalld(do func(*bus.Firewalld) error) error {
	f, err := k.bus.Firewalld()
	if f == nil || err != nil {
		return err
	}
	return do(f)
}

// awaitFirewalld waits until firewalld has nothing left to flush. An error is left to the steps that need firewalld, and
// after an error nobody waits again.
func (k *Kernel) awaitFirewalld() {
	if k.awaited || k.unheard {
		return
	}
	k.awaited = true
	k.unheard = k.withFirewalld((*bus.Firewalld).Await) != nil
}
