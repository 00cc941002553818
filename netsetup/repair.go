package netsetup

import (
	"fmt"
	"strings"

	"boxrun/netsetup/led"
	"boxrun/netsetup/rules"
)

// RepairCommands returns what a person would type into bash to put in place what of the plan is out of place, none
// where all is in place. It never writes. The plan must be recorded.
func (p Plan) RepairCommands(k *Kernel) ([]string, error) {
	var lines []string
	err := eachDrifted(k, "checking", p.steps(), func(s step, _ []string) error {
		up, _ := s.commands()
		var err error
		if r, ok := s.(repairer); ok {
			up, err = r.repairCommands(k)
		}
		lines = append(lines, up...)
		return err
	})
	return lines, err
}

// repairer is a step whose commands cannot be typed twice, as of a [rulesets], a [Device], an [Address] or [Answers], or do
// not suffice, as of a [Plug] or [Features].
type repairer interface {
	// repairCommands returns what a person would type to put in place what is missing of the step.
	repairCommands(k *Kernel) ([]string, error)
}

// repairCommands feeds iptables-restore the same as ensure does. Where none of the rules is there, the commands are
// the ones easier to read: those of a clean host.
func (rs rulesets) repairCommands(k *Kernel) ([]string, error) {
	all, err := rs.repair(k)
	var lines []string
	for i, e := range all {
		lines = append(lines, e.commands(rs[i])...)
	}
	return lines, err
}

// commands returns what a person would type for the edits of a ruleset.
func (e *edits) commands(r *ruleset) []string {
	if len(e.lines) == 0 {
		return nil
	}
	if !e.found {
		up, _ := r.commands()
		return up
	}
	input := strings.Join(e.input(tableOrder()), "\n")
	flows, _ := r.flows.commands()
	return append([]string{string(r.family) + "-restore --noflush -w <<'EOF'\n" + input + "\nEOF"}, flows...)
}

// repairCommands repairs a bridge that is there, be it by another name, and makes a bridge that is not.
func (d *Device) repairCommands(k *Kernel) ([]string, error) {
	up, _ := d.commands()
	link, err := k.linkByName(d.Name)
	if err != nil || d.Found != nil {
		return up, err
	}
	var named []string
	if link == nil {
		if link, err = d.renamed(k); err != nil || link == nil {
			return up, err
		}
		name := link.Attrs().Name
		named = []string{fmt.Sprintf("ip link set %s down", name), fmt.Sprintf("ip link set %s name %s", name, d.Name)}
	}
	mtu := rules.WordsIf(d.MTU > 0, " mtu %d", d.MTU)
	return append(named,
		fmt.Sprintf("ip link set %s address %s%s alias %s arp on up", d.Name, d.MAC, mtu, d.Alias),
		fmt.Sprintf("ip addr replace %s brd + dev %s", d.Address, d.Name),
		led.Typed(d.Name, d.Address)), nil
}

// repairCommands put the address on a device that may have the address.
func (a *Address) repairCommands(k *Kernel) ([]string, error) {
	up, _ := a.commands()
	link, err := k.linkByName(a.Device)
	if err != nil || link == nil {
		return up, err
	}
	return []string{fmt.Sprintf("ip addr replace %s dev %s nodad", a.Prefix, a.Device), led.Typed(a.Device, a.Prefix)}, nil
}

// repairCommands put the veth on the bridge, too.
func (p *Plug) repairCommands(k *Kernel) ([]string, error) {
	up, _ := p.commands()
	link, err := k.linkByName(p.Veth)
	if err != nil || link == nil || p.Bridge == "" {
		return up, err
	}
	return append([]string{fmt.Sprintf("ip link set %s nomaster", p.Veth), fmt.Sprintf("ip link set %s master %s up", p.Veth, p.Bridge)}, up...), nil
}
