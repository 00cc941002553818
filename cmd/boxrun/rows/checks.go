package rows

import (
	"fmt"
	"slices"

	"boxrun/launcher/doctor"
	"boxrun/launcher/list"
	"boxrun/launcher/say"
)

// Checks returns the lines of doctor for programs, and for people who ask for all: a line for each check, and below a
// check that did not pass why the check matters and what to do.
func Checks(checks []doctor.Check) []string {
	area, name := widest(checks, areaOf), widest(checks, func(c doctor.Check) string { return c.Name })
	var lines []string
	for _, c := range checks {
		lines = append(lines, fmt.Sprintf("%s  %-*s  %-*s  %s", c.Status, area, c.Area, name, c.Name, say.Plain(c.Found)))
		lines = append(lines, advice(c, "      ")...)
	}
	return lines
}

// Problems returns the lines of doctor for a terminal: first the checks that warn or failed, each with a heading, and
// then a line for each area with the number of checks that passed. coloured puts verdicts in colours.
func Problems(checks []doctor.Check, coloured bool) []string {
	var lines []string
	for _, verdict := range []doctor.Verdict{doctor.Fail, doctor.Warn} {
		for _, c := range with(checks, verdict) {
			lines = append(lines, fmt.Sprintf("%s  %s: %s", painted(verdict, coloured), c.Area, c.Name), "      "+say.Plain(c.Found))
			lines = append(lines, advice(c, "      ")...)
			lines = append(lines, "")
		}
	}
	width := widest(checks, areaOf)
	for _, area := range areas(checks) {
		of := slices.DeleteFunc(slices.Clone(checks), func(c doctor.Check) bool { return c.Area != area })
		if passed := len(with(of, doctor.Pass)); passed > 0 {
			lines = append(lines, fmt.Sprintf("%s  %-*s  %d of %d checks", painted(doctor.Pass, coloured), width, area, passed, len(of)))
		}
	}
	return lines
}

// Count returns a line with the number of checks of each verdict.
func Count(checks []doctor.Check) string {
	return fmt.Sprintf("%d checks: PASS %d, WARN %d, FAIL %d, SKIP %d", len(checks), len(with(checks, doctor.Pass)),
		len(with(checks, doctor.Warn)), len(with(checks, doctor.Fail)), len(with(checks, doctor.Skip)))
}

// advice returns indented lines: why the check matters and what to do, as far as the check says so.
func advice(c doctor.Check, indent string) []string {
	var lines []string
	if c.Why != "" {
		lines = append(lines, indent+"why: "+say.Plain(c.Why))
	}
	if c.Fix != "" {
		lines = append(lines, indent+"fix: "+say.Plain(c.Fix))
	}
	return lines
}

// painted returns a verdict, coloured or not: red for a failure, yellow for a warning, green for a check that passed.
func painted(v doctor.Verdict, coloured bool) string {
	colour := map[doctor.Verdict]int{doctor.Fail: 31, doctor.Warn: 33, doctor.Pass: 32}[v]
	if !coloured || colour == 0 {
		return string(v)
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, v)
}

// with returns the checks of a verdict.
func with(checks []doctor.Check, v doctor.Verdict) []doctor.Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c doctor.Check) bool { return c.Status != v })
}

// areas returns the areas of the checks, in the order of the checks.
func areas(checks []doctor.Check) []string {
	var all []string
	for _, c := range checks {
		if !slices.Contains(all, c.Area) {
			all = append(all, c.Area)
		}
	}
	return all
}

func areaOf(c doctor.Check) string { return c.Area }

// widest returns the width of the widest text of the checks.
func widest(checks []doctor.Check, text func(doctor.Check) string) int {
	return slices.Max(append(list.Map(checks, func(c doctor.Check) int { return len(text(c)) }), 0))
}
