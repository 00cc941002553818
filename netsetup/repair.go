package netsetup

import (
	"fmt"
	"strings"
)

// RepairCommands gives what a person would type into bash to put in place what is not, on the host as it is: Commands
// for what of the plan is missing, none where all is in place. It never writes. The plan was recorded before.
func (p Plan) RepairCommands(k *Kernel) ([]string, error) {
	var lines []string
	for _, s := range p.steps() {
		drift, err := s.check(k)
		if err != nil {
			return nil, fmt.Errorf("checking %v: %w", s, err)
		}
		if len(drift) == 0 {
			continue
		}
		missing, err := repairOf(s, k)
		if err != nil {
			return nil, fmt.Errorf("checking %v: %w", s, err)
		}
		lines = append(lines, missing...)
	}
	return lines, nil
}

// repairOf gives the commands for one step that is not in place. Those of most steps can be typed twice.
func repairOf(s step, k *Kernel) ([]string, error) {
	switch s := s.(type) {
	case *ruleset:
		return s.repairCommands(k)
	case *Device:
		return s.repairCommands(k)
	}
	up, _ := s.commands()
	return up, nil
}

// repairCommands feeds iptables-restore what ensure feeds it; where nothing of the rules is there, it is the commands
// that a person can read better.
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

// absent says whether the kernel has none of the chains and rules.
func (r *ruleset) absent(k *Kernel) (bool, error) {
	have, err := k.rules()
	if err != nil {
		return false, err
	}
	for _, c := range r.chains {
		if _, exists := have.chain(c.Table, c.Name); exists {
			return false, nil
		}
	}
	for _, rule := range r.rules {
		rules, _ := have.chain(rule.Table, rule.Chain)
		for _, other := range rules {
			if other == normal(rule.Spec) {
				return false, nil
			}
		}
	}
	return true, nil
}

// repairCommands mends a bridge that is there, and makes one that is not.
func (d *Device) repairCommands(k *Kernel) ([]string, error) {
	up, _ := d.commands()
	link, err := k.linkByName(d.Name)
	if err != nil || link == nil || d.Found != nil {
		return up, err
	}
	mend := fmt.Sprintf("ip link set %s address %s", d.Name, d.MAC)
	if d.MTU > 0 {
		mend += fmt.Sprintf(" mtu %d", d.MTU)
	}
	return []string{mend + " alias " + d.Alias + " up", fmt.Sprintf("ip addr replace %s brd + dev %s", d.Address, d.Name)}, nil
}
