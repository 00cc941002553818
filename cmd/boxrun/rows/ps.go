package rows

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/health"
	"boxrun/launcher/list"
	"boxrun/launcher/say"
)

// Ps returns a header and a row for each box. With short names the rows fit a terminal of 80 columns. What a narrow
// terminal can do without stands at the end.
func Ps(boxes []launcher.Status, now time.Time) [][]string {
	rows := [][]string{{"NAME", "STATE", "ENABLED", "ADDRESS", "PORTS", "UP", "MEM", "IMAGE"}}
	for _, b := range boxes {
		rows = append(rows, []string{b.Name, shownState(b), yesNo(b.Enabled), addresses(append([]string{b.Address, b.Second}, b.LAN6[:min(len(b.LAN6), 1)]...)...),
			cmp.Or(shownPorts(b.Ports), "-"), uptime(b, now), shownMemory(b.Usage), shownImage(b) + remarks(b, now)})
	}
	return rows
}

// shownState returns the state of a box, and of a running box how the box is.
func shownState(b launcher.Status) string {
	if b.State != string(box.Running) {
		return b.State
	}
	return cmp.Or(b.Health.Word, b.State)
}

// shownPorts joins ports with blanks, without the usual parts: "/tcp" and the address 0.0.0.0.
func shownPorts(ports []string) string {
	return strings.Join(list.Map(ports, func(port string) string {
		return strings.TrimSuffix(strings.TrimPrefix(port, "0.0.0.0:"), "/tcp")
	}), " ")
}

// shownImage returns the image without its directory, "-" for none.
func shownImage(b launcher.Status) string {
	if b.Image == "" {
		return "-"
	}
	return filepath.Base(b.Image)
}

// remarks says in brackets what ails the box, what changed since the start, whether the box has drifted, and how often the
// box was started anew; "" for none of these.
func remarks(b launcher.Status, now time.Time) string {
	var words []string
	if b.Health.Why != "" {
		words = append(words, ailment(b, now))
	}
	if len(b.Changed) > 0 {
		words = append(words, strings.Join(b.Changed, ", ")+" changed")
	}
	if len(b.Drift) > 0 && b.Health.Word != health.Drifted {
		words = append(words, "drifted")
	}
	if b.Restarts > 0 {
		words = append(words, fmt.Sprintf("restarted %dx", b.Restarts))
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, "; ") + ")"
}

// ailment says why the box is not well, and since when. Of what drifted ailment says the first: the rest may be long.
func ailment(b launcher.Status, now time.Time) string {
	text := b.Health.Why
	if n := len(b.Drift); b.Health.Word == health.Drifted && n > 1 {
		text = fmt.Sprintf("%s; and %d more", b.Drift[0], n-1)
	}
	if since := lasts(b.Health, now); since != "" {
		return since + ": " + text
	}
	return text
}

// lasts says how long a box has been healthy or unhealthy; "" where nobody looks, and for other words.
func lasts(h launcher.Health, now time.Time) string {
	if h.Since.IsZero() || h.Word != string(health.Healthy) && h.Word != string(health.Unhealthy) {
		return ""
	}
	return "for " + say.Span(now.Sub(h.Since))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// uptime returns how long a box has run, "-" for a box that does not run.
func uptime(b launcher.Status, now time.Time) string {
	if b.PID == 0 {
		return "-"
	}
	return say.Span(now.Sub(b.Started))
}
