package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// A host's systemd that executes itself anew, or reads its units again, while boxrun or Apptainer talks to it fails no
// verb, and no box ends up outside its service.
func TestTheHostsSystemdIsAwayForAMoment(t *testing.T) {
	h := newHost(t)
	h.sh("systemctl daemon-reexec; touch /etc/systemd/system/multi-user.target.wants")
	before := h.dump()
	moments := []string{"0.1"}
	if soak() {
		moments = []string{"0", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.4", "0.5", "0.7", "0.9"}
	}
	for _, moment := range moments {
		for _, verb := range []string{"up web", "enable web", "restart web", "repair", "disable web", "down web"} {
			h.during(fmt.Sprintf("sleep %s; systemctl daemon-reexec; sleep 0.2; systemctl daemon-reexec", moment), verb)
		}
		h.during(fmt.Sprintf("for i in 1 2 3 4; do sleep %s; systemctl daemon-reload; done", moment), "up web")
		h.must("boxrun", "down", "web")
	}
	h.same(before, append(stays(), `^0 /usr/lib/systemd/systemd `)...)
}

// A generator of the host's that takes longer than any answer of systemd's.
func TestTheHostsSystemdReadsItsUnitsForLong(t *testing.T) {
	if !soak() {
		t.Skip("takes 20 s, at full length only")
	}
	h := newHost(t)
	h.sh(`mkdir -p /etc/systemd/system-generators; cd /etc/systemd/system-generators
		printf '#!/bin/sh\nsleep 7\n' > slow; chmod 755 slow`)
	for _, verb := range []string{"up web", "down web"} {
		h.during("systemctl daemon-reload", verb)
	}
}

// during runs a verb that has to succeed without a warning while a script of the host's runs.
func (h host) during(script, verb string) {
	h.t.Helper()
	r := h.run("bash", "-c", "("+script+") & sleep 0.02; boxrun "+verb+"; code=$?; wait; exit $code")
	if r.Code != 0 || strings.Contains(r.Stderr, "warning: it will end") || strings.Contains(r.Stderr, "connecting to the host's systemd") {
		h.t.Errorf("%s, during %q: %v", verb, script, r)
	}
}
