package profiles

import (
	"errors"
	"net/url"
	"slices"
)

// decode reads [ready]. masked are the units that will never be active, and mode is the mode of the network.
func (r *Ready) decode(s *section, masked []string, mode string) {
	one(s, "timeout", &r.Timeout, duration)
	many(s, "units", &r.Units, startedUnit)
	r.decodeTCP(s)
	many(s, "http", &r.HTTP, checkURL)
	one(s, "hint", &r.Hint, prose)
	if mode == NoneMode {
		r.checkUnreached(s)
	}
	for i, unit := range r.Units {
		if j := slices.Index(masked, unit); j >= 0 && unit != "" {
			s.refuse(at("units", i), "%s cannot become active, systemd.mask[%d] masks it", unit, j)
		}
	}
}

// checkUnreached refuses network checks for a box without a network.
func (r *Ready) checkUnreached(s *section) {
	const rule = "cannot be checked with network.mode = %q: name units"
	if len(r.TCP) > 0 {
		s.refuse("tcp", rule, NoneMode)
	}
	if len(r.HTTP) > 0 {
		s.refuse("http", rule, NoneMode)
	}
}

// decodeTCP reads a list of port numbers.
func (r *Ready) decodeTCP(s *section) {
	raw, _ := s.list("tcp", "a list of port numbers")
	for i, value := range raw {
		if n, ok := number(s, at("tcp", i), value, between(1, 65535)); ok {
			r.TCP = append(r.TCP, uint16(n))
		}
	}
}

// checkURL checks the URL of a page. A URL without a host means the box.
func checkURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" {
		return "", errors.New("must be a URL such as \"http://:80/healthz\"")
	}
	if u.Port() != "" {
		if _, err := parsePortNumber(u.Port()); err != nil {
			return "", err
		}
	}
	return s, nil
}
