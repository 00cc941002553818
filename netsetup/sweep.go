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
	boxes, bridges, err := leftovers(k, known)
	errs := []error{err}
	for _, name := range boxes {
		errs = append(errs, sweeping("box "+name, sweepBox(k, name)))
	}
	for _, name := range bridges {
		r := ruleset{owner: rules.MarkPrefix + name, rules: bridgePlaces()}
		errs = append(errs, sweeping("bridge "+name, r.undo(k)))
	}
	return inWords(boxes, bridges), errors.Join(errs...)
}

// Leftovers gives what Sweep would remove, in the same words. It changes nothing.
func Leftovers(k *Kernel, known []string) ([]string, error) {
	boxes, bridges, err := leftovers(k, known)
	return inWords(boxes, bridges), err
}

// leftovers gives the names of what has rules and is not there.
func leftovers(k *Kernel, known []string) (boxes, bridges []string, err error) {
	have, err := k.rules()
	if err != nil {
		return nil, nil, err
	}
	bridges, err = k.goneBridges(have)
	return strangers(have, known), bridges, err
}

func inWords(boxes, bridges []string) []string {
	var words []string
	for _, name := range boxes {
		words = append(words, "box "+name)
	}
	for _, name := range bridges {
		words = append(words, "bridge "+name)
	}
	return words
}

func sweeping(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sweeping away %s: %w", what, err)
}

// sweepBox undoes a box's rules by its name alone: that is all they are found by.
func sweepBox(k *Kernel, name string) error {
	p := Ports(Box{Name: name})
	p.Flows = nil // there is no address to go by
	return p.ruleset().undo(k)
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
