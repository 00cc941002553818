package netsetup

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"boxrun/netsetup/rules"
)

// Sweep removes the chains of boxes not in known, with the jumps to the chains, and the rules of bridges that do not
// exist. Such rules are brought back at boot by a service that saves rules, or left by a boxrun without its state.
// Sweep returns a word for each: "box web", "bridge sbr0".
func Sweep(k *Kernel, known []string) ([]string, error) {
	k.Reread()
	found, err := leftovers(k, known)
	errs := []error{err}
	var words []string
	for _, l := range found {
		words = append(words, l.String())
		for _, s := range stepOfEach(l.leases) {
			errs = append(errs, l.sweeping(s.undo(k)))
		}
		errs = append(errs, l.sweeping(l.rules.undo(k)))
	}
	return words, errors.Join(errs...)
}

// SweepReserved releases the addresses reserved for boxes not in known, and returns the names of the boxes. Sweep does the
// same, for which it has to read rules.
func SweepReserved(known []string) (names []string, err error) {
	leases, err := reservationsBelow(cniLeases)
	errs := []error{err}
	for i := range leases {
		if name := leases[i].box(); !slices.Contains(known, name) {
			errs = append(errs, leases[i].undo(nil))
			names = append(names, name)
		}
	}
	return slices.Compact(names), errors.Join(errs...)
}

// Leftovers returns the same words as Sweep and changes nothing.
func Leftovers(k *Kernel, known []string) ([]string, error) {
	found, err := leftovers(k, known)
	var words []string
	for _, l := range found {
		words = append(words, l.String())
	}
	return words, err
}

// leftover is a box or a bridge with rules or reserved addresses and nothing else.
type leftover struct {
	kind, name string
	rules      rulesets
	leases     []Reservation
}

func (l leftover) String() string { return l.kind + " " + l.name }

// sweeping adds to an error what was swept away.
func (l leftover) sweeping(err error) error {
	if err != nil {
		err = fmt.Errorf("sweeping away %v: %w", l, err)
	}
	return err
}

// bothFamilies returns the rules of a plan in IPv4, and in IPv6 where the host has ip6tables: what is left in one is left
// in both.
func bothFamilies(p Plan) rulesets {
	list := rulesets{{family: v4, owner: p.Owner, chains: p.Chains, rules: p.Rules}}
	if hasIP6tables() {
		list = append(list, &ruleset{family: v6, owner: p.Owner, chains: p.Chains, rules: p.Rules})
	}
	return list
}

// leftovers returns boxes that have a chain or a reserved address and are unknown, sorted, then bridges.
func leftovers(k *Kernel, known []string) ([]leftover, error) {
	have, err := k.rules(v4)
	if err != nil {
		return nil, err
	}
	boxes := map[string]bool{}
	for _, t := range have {
		for _, c := range t.Chains {
			if name, ok := boxOf(c.Name); ok && !slices.Contains(known, name) {
				boxes[name] = true
			}
		}
	}
	leases, leasesErr := reservationsBelow(cniLeases)
	for _, l := range leases {
		if !slices.Contains(known, l.box()) {
			boxes[l.box()] = true
		}
	}
	var found []leftover
	for _, name := range slices.Sorted(maps.Keys(boxes)) {
		p := Ports(Box{Name: name}) // the rules of a box are found by its name alone
		others := func(r Reservation) bool { return r.box() != name }
		found = append(found, leftover{"box", name, bothFamilies(p),
			slices.DeleteFunc(slices.Clone(leases), others)})
	}
	bridges, err := k.goneBridges(have)
	for _, name := range bridges {
		found = append(found, leftover{"bridge", name, bothFamilies(Plan{Owner: rules.MarkPrefix + name, Rules: bridgePlaces()}), nil})
	}
	return found, errors.Join(err, leasesErr)
}

// bridgePlaces returns a rule for each chain with rules of a bridge's plan.
func bridgePlaces() []Rule { return bridgeRules(Network{}, v4) }

// goneBridges returns the bridges with rules and no device. The device is made before its rules and deleted after the
// rules, so such rules are nobody's.
func (k *Kernel) goneBridges(have rules.Tables) ([]string, error) {
	var gone []string
	for _, place := range bridgePlaces() {
		for _, rule := range have.Rules(place.Table, place.Chain) {
			name, ok := strings.CutPrefix(rule.Comment(), rules.MarkPrefix)
			if !ok || slices.Contains(gone, name) {
				continue
			}
			link, err := k.linkByName(name)
			if err != nil {
				return gone, err
			}
			if link == nil {
				gone = append(gone, name)
			}
		}
	}
	return gone, nil
}
