package netsetup

import (
	"fmt"
	"slices"
	"strings"

	"boxrun/netsetup/rules"
)

// RepairCommands returns what a person would type into bash to put in place what of the plan is out of place, none
// where all is in place. It never writes. The plan must be recorded.
func (p Plan) RepairCommands(k *Kernel) ([]string, error) {
	var lines []string
	err := p.eachDrifted(k, func(s step, _ []string) error {
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

// repairer is a step whose commands cannot be typed twice: a [ruleset] or a [Device].
type repairer interface {
	// repairCommands returns what a person would type to put in place what is missing of the step.
	repairCommands(k *Kernel) ([]string, error)
}

// repairCommands feeds iptables-restore the same as ensure does. Where none of the rules is there, the commands are
// the ones easier to read: those of a clean host.
func (r *ruleset) repairCommands(k *Kernel) ([]string, error) {
	e, err := r.repair(k)
	if err != nil {
		return nil, err
	}
	up, _ := r.commands()
	if none, err := r.absent(k); none || err != nil {
		return up, err
	}
	input := strings.Join(e.input(tableOrder()), "\n")
	flows, _ := r.flows.commands()
	return append([]string{"iptables-restore --noflush -w <<'EOF'\n" + input + "\nEOF"}, flows...), nil
}

// absent reports whether the kernel has none of the chains and rules.
func (r *ruleset) absent(k *Kernel) (bool, error) {
	have, err := k.rules()
	if err != nil {
		return false, err
	}
	chain := slices.ContainsFunc(r.chains, func(c Chain) bool { return have.Has(c.Table, c.Name) })
	rule := slices.ContainsFunc(r.rules, func(want Rule) bool {
		return slices.ContainsFunc(have.Rules(want.Table, want.Chain), func(rule rules.Rule) bool {
			return rule.Text == rules.Normal(want.Spec)
		})
	})
	return !chain && !rule, nil
}

// repairCommands repairs a bridge that is there, and makes a bridge that is not.
func (d *Device) repairCommands(k *Kernel) ([]string, error) {
	up, _ := d.commands()
	link, err := k.linkByName(d.Name)
	if err != nil || link == nil || d.Found != nil {
		return up, err
	}
	attrs := fmt.Sprintf("ip link set %s address %s", d.Name, d.MAC)
	if d.MTU > 0 {
		attrs += fmt.Sprintf(" mtu %d", d.MTU)
	}
	return []string{attrs + " alias " + d.Alias + " up", fmt.Sprintf("ip addr replace %s brd + dev %s", d.Address, d.Name)}, nil
}
