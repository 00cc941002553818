package rows

import (
	"strings"
	"testing"
	"time"

	"boxrun/launcher"
)

// What ails a box has its word in STATE, and its reason behind the image in ps; in status several reasons are lines.
func TestAilments(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	since := now.Add(-5 * time.Second)
	for _, test := range []struct {
		health       launcher.Health
		drift        []string
		state        string
		ps, inStatus string
	}{
		{launcher.Health{Word: "running"}, nil, "running", "web.sif", "running"},
		{launcher.Health{Word: "healthy", Since: since}, nil, "healthy", "web.sif", "healthy for 5s"},
		{launcher.Health{Word: "degraded", Why: "ended: a.service", Since: since}, nil, "degraded", "web.sif (ended: a.service)", "degraded: ended: a.service"},
		{launcher.Health{Word: "unhealthy", Why: "a; b", Since: since}, []string{"x"}, "unhealthy", "web.sif (for 5s: a; b; drifted)",
			"unhealthy for 5s:|  a|  b"},
		{launcher.Health{Word: "drifted", Why: "x; y; z", Since: since}, []string{"x", "y", "z"}, "drifted", "web.sif (x; and 2 more)",
			`drifted, as below: "boxrun repair" mends what it can`},
	} {
		s := launcher.Status{Name: "web", State: "running", PID: 1, Started: since, Image: "/srv/web.sif", Health: test.health, Drift: test.drift}
		row := Ps([]launcher.Status{s}, now)[1]
		if got := row[1] + ": " + row[len(row)-1]; got != test.state+": "+test.ps {
			t.Errorf("ps: got %q, want %q", got, test.state+": "+test.ps)
		}
		if got := strings.Join(healthLines(s, now), "|"); got != test.inStatus {
			t.Errorf("status: got %q, want %q", got, test.inStatus)
		}
	}
}
