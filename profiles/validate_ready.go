package profiles

import (
	"errors"
	"net/url"
	"slices"

	"boxrun/profiles/port"
)

// decode reads [ready]. masked are the units that will never be active, and mode is the mode of the network.
func (r *Ready) decode(s *section, masked []string, mode string) {
	take(s, "timeout", &r.Timeout, text(duration))
	take(s, "units", &r.Units, texts(startedUnit))
	take(s, "tcp", &r.TCP, list("a list of port numbers", whole(tcpPort)))
	take(s, "http", &r.HTTP, texts(checkURL))
	take(s, "hint", &r.Hint, expanded)
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
	if slices.ContainsFunc(r.TCP, func(port uint16) bool { return port != 0 }) { // 0: refused already
		s.refuse("tcp", rule, NoneMode)
	}
	if len(r.HTTP) > 0 {
		s.refuse("http", rule, NoneMode)
	}
}

func tcpPort(n int64) (uint16, error) {
	if n < 1 || n > 65535 {
		return 0, errors.New("must be 1 to 65535")
	}
	return uint16(n), nil
}

// checkURL checks the URL of a page. A URL without a host means the box.
func checkURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "" {
		return "", errors.New("must be a URL such as \"http://:80/healthz\"")
	}
	if u.Port() != "" {
		if _, err := port.ParseNumber(u.Port()); err != nil {
			return "", err
		}
	}
	return s, nil
}
