package profiles

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// profileName checks the name of another profile, NAME or NAME@INSTANCE. Paths are refused, as every person has an own
// search path.
func profileName(s string) (string, error) {
	name, instance, err := cutInstance(s)
	if err == nil {
		err = CheckName(name)
	}
	if err == nil && instance != "" {
		err = CheckName(name + "-" + instance)
	}
	if err != nil || strings.HasSuffix(s, "@") {
		return "", errors.New("must be the name of a profile, NAME or NAME@INSTANCE")
	}
	return s, nil
}

// checkDependsOn refuses a name given twice, and the profile's own name.
func (p *Profile) checkDependsOn(s *section) {
	for i, name := range p.DependsOn {
		switch j := slices.Index(p.DependsOn, name); {
		case name == "": // refused already
		case j < i:
			s.refuse(at("depends_on", i), "names %q, as depends_on[%d] does", name, j)
		case BoxName(name) == p.Name:
			s.refuse(at("depends_on", i), "names the profile itself")
		}
	}
}

// Dependencies returns the profiles that p needs, directly or indirectly. Each profile occurs once, after its own
// dependencies. A dependency that is missing, invalid, or part of a circle is returned as Errors of the profile naming
// the dependency.
func (s Search) Dependencies(p Profile) ([]Profile, error) {
	s.Box = nil // a box that is up today is no profile tomorrow
	w := dependencyWalk{search: s}
	err := w.visit(p, []string{p.Name})
	return w.order, err
}

// A dependencyWalk collects dependencies depth first.
type dependencyWalk struct {
	search Search
	order  []Profile
}

// visit adds the dependencies of p. chain lists the boxes on the way to p, including p.
func (w *dependencyWalk) visit(p Profile, chain []string) error {
	for i, name := range p.DependsOn {
		box := BoxName(name)
		known := func(q Profile) bool { return q.Name == box }
		if slices.ContainsFunc(w.order, known) {
			continue
		}
		way := append(slices.Clone(chain), box)
		if slices.Contains(chain, box) {
			return p.wrongDependency(i, "goes in a circle: "+strings.Join(way, " needs "))
		}
		q, err := w.search.Load(name)
		if err != nil {
			return p.wrongDependency(i, err.Error())
		}
		if err := w.visit(q, way); err != nil {
			return err
		}
		w.order = append(w.order, q)
	}
	return nil
}

func (p Profile) wrongDependency(i int, message string) error {
	return Errors{{File: p.File, Key: fmt.Sprintf("depends_on[%d]", i), Message: message}}
}
