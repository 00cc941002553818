package profiles

import (
	"errors"
	"slices"
	"strings"
)

// profileName checks the name of another profile, NAME or NAME@INSTANCE. Paths are refused, as every person has an own
// search path.
func profileName(s string) (string, error) {
	ref, err := parseRef(s)
	if err != nil || CheckName(ref.File) != nil || CheckName(ref.box()) != nil {
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
	return s.depend(nil, p, []string{p.Name})
}

// depend adds the dependencies of p to known, depth first. chain lists the boxes on the way to p, including p.
func (s Search) depend(known []Profile, p Profile, chain []string) ([]Profile, error) {
	for i, name := range p.DependsOn {
		box := BoxName(name)
		if slices.ContainsFunc(known, func(q Profile) bool { return q.Name == box }) {
			continue
		}
		way := append(slices.Clone(chain), box)
		if slices.Contains(chain, box) {
			return nil, p.wrongDependency(i, "goes in a circle: "+strings.Join(way, " needs "))
		}
		q, err := s.Load(name)
		if err != nil {
			return nil, p.wrongDependency(i, err.Error())
		}
		if known, err = s.depend(known, q, way); err != nil {
			return nil, err
		}
		known = append(known, q)
	}
	return known, nil
}

func (p Profile) wrongDependency(i int, message string) error {
	return Errors{{File: p.File, Key: at("depends_on", i), Message: message}}
}
