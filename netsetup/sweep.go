package netsetup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"boxrun/netsetup/rules"
)

// Sweep removes the chains of boxes whose names are not in known, with the jumps to them, and the rules of bridges that
// do not exist: what a service that saves rules has brought back at boot, or a boxrun without its state has left. It
// gives a word for each of them: "box web", "bridge sbr0".
func Sweep(k *Kernel, known []string) ([]string, error) {
	k.Reread()
	found, err := leftovers(k, known)
	errs := []error{err}
	var words []string
	for _, l := range found {
		words = append(words, l.String())
		if err := l.rules.undo(k); err != nil {
			errs = append(errs, fmt.Errorf("sweeping away %v: %w", l, err))
		}
	}
	return words, errors.Join(errs...)
}

// Leftovers returns what Sweep would remove, in the same words. It changes nothing.
func Leftovers(k *Kernel, known []string) ([]string, error) {
	found, err := leftovers(k, known)
	var words []string
	for _, l := range found {
		words = append(words, l.String())
	}
	return words, err
}

// leftover is a box or a bridge that has rules and is not there.
type leftover struct {
	kind, name string
	rules      *ruleset
}

func (l leftover) String() string { return l.kind + " " + l.name }

// leftovers returns boxes, then bridges.
func leftovers(k *Kernel, known []string) ([]leftover, error) {
	have, err := k.rules()
	if err != nil {
		return nil, err
	}
	var found []leftover
	for _, name := range strangers(have, known) {
		p := Ports(Box{Name: name}) // the rules of a box are found by its name alone
		found = append(found, leftover{"box", name, &ruleset{owner: p.Owner, chains: p.Chains, rules: p.Rules}})
	}
	bridges, err := k.goneBridges(have)
	for _, name := range bridges {
		found = append(found, leftover{"bridge", name, &ruleset{owner: rules.MarkPrefix + name, rules: bridgePlaces()}})
	}
	return found, err
}

// strangers gives the names of the boxes that have a chain but are not known, sorted.
func strangers(have rules.Tables, known []string) []string {
	var names []string
	for _, t := range have {
		for _, c := range t.Chains {
			name, ok := boxOf(c.Name)
			if ok && !slices.Contains(known, name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// bridgePlaces gives a rule for each chain that a bridge's plan puts rules into.
func bridgePlaces() []Rule { return bridgeRules(Network{}) }

// goneBridges gives the bridges that have rules and no device. The device is made before its rules and deleted after
// them, so such rules are nobody's.
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
