package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxrun/e2e/testhost"
)

// figures is what bench measured: lives by the number of ports and the contender, and times of boxrun's own verbs.
type figures struct {
	lives map[int]map[string][]life
	verbs []verbTime
}

// verbTime is the time of a line while boxes are up.
type verbTime struct {
	what  string
	times []cost
}

// portCounts are the numbers of published ports that are measured.
func portCounts() []int { return []int{1, 100, 1000} }

// bench prints how long boxrun takes beside others who run boxes with systemd, and where page is given writes the table
// and a chart there. All run in turn, and a ratio is the median of the ratios of a round, so that a passing load on the
// machine slows all.
func bench(ctx context.Context, h *testhost.Host, bin string, rounds int, page string) error {
	if err := writeBenchProfiles(ctx, h); err != nil {
		return err
	}
	from, err := newClient(ctx, h)
	if err != nil {
		return err
	}
	defer from.close()
	f := figures{lives: map[int]map[string][]life{}}
	for _, ports := range portCounts() {
		if f.lives[ports], err = inTurn(ctx, h, from, rounds, ports); err != nil {
			return err
		}
	}
	for _, boxes := range []int{1, 20, 50} {
		verbs, err := whileUp(ctx, h, rounds, boxes)
		if err != nil {
			return err
		}
		f.verbs = append(f.verbs, verbs...)
	}
	fmt.Print(f.table())
	if page != "" {
		if err := f.write(page, rounds); err != nil {
			return err
		}
	}
	return errors.Join(flow(ctx, h, bin, rounds, page), crowd(ctx, h, bin, rounds, page))
}

// writeBenchProfiles writes profiles of boxes similar to those of others. The boxes have a bridge of their own, as
// Apptainer never removes its bridge.
func writeBenchProfiles(ctx context.Context, h *testhost.Host) error {
	const network = "[network]\nbridge = \"bench0\"\nsubnet = \"10.77.0.0/16\"\n"
	profiles := map[string]string{"bench-crowd": "image = \"builtin:hello\"\n" + network}
	for _, n := range portCounts() {
		profiles[fmt.Sprintf("bench-%d", n)] = "image = \"" + testhost.WebImage + "\"\n" + network + "ports = [" + profilePorts(n) + "]\n"
	}
	for name, text := range profiles {
		if err := h.Write(ctx, "/etc/boxrun/profiles/"+name+".toml", 0o644, strings.NewReader(text)); err != nil {
			return err
		}
	}
	_, err := h.Exec(ctx, "sh", "-c", nspawnNetwork)
	return err
}

// inTurn measures the lives of boxes with so many ports, a round of all contenders after the other. A first round warms
// caches and does not count.
func inTurn(ctx context.Context, h *testhost.Host, from client, rounds, ports int) (map[string][]life, error) {
	lives := map[string][]life{}
	for round := range rounds + 1 {
		for _, c := range contenders() {
			if ports > c.most {
				continue
			}
			l, err := liveReached(ctx, h, from, c, ports)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				lives[c.name] = append(lives[c.name], l)
			}
			fmt.Fprintf(os.Stderr, "%d ports, round %d: %s: up %v, first answer %v, stop %v\n", ports, round, c.name,
				l.up.Round(time.Millisecond), l.answer.Round(time.Millisecond), l.stop.Round(time.Millisecond))
		}
	}
	return lives, nil
}

// liveReached is live with the way to nspawn's box where that box is meant.
func liveReached(ctx context.Context, h *testhost.Host, from client, c contender, ports int) (life, error) {
	if c.name != "nspawn" {
		return live(ctx, h, from, c, ports)
	}
	if _, err := spend(ctx, h, nspawnWay("I")); err != nil {
		return life{}, err
	}
	l, err := live(ctx, h, from, c, ports)
	if err != nil {
		return l, err
	}
	_, err = spend(ctx, h, nspawnWay("D"))
	return l, err
}

// whileUp measures verbs while so many boxes are up.
func whileUp(ctx context.Context, h *testhost.Host, rounds, boxes int) ([]verbTime, error) {
	up := "boxrun up"
	for i := range boxes {
		up += " bench-crowd@" + strconv.Itoa(i)
	}
	if _, err := spend(ctx, h, up); err != nil {
		return nil, err
	}
	verbs := []string{"boxrun ps", "boxrun status bench-crowd@0", "boxrun up bench-crowd@0", "boxrun repair"}
	list := make([]verbTime, len(verbs))
	for range rounds {
		for i, line := range verbs {
			c, err := spend(ctx, h, line)
			if err != nil {
				return nil, err
			}
			verb := strings.Fields(line)[1]
			list[i].what = fmt.Sprintf("%s, %d up", map[string]string{"up": "up of a box that is up"}[verb], boxes)
			if verb != "up" {
				list[i].what = fmt.Sprintf("%s, %d up", verb, boxes)
			}
			list[i].times = append(list[i].times, c)
		}
	}
	_, err := spend(ctx, h, "boxrun down --all")
	return list, err
}

func median[T time.Duration | float64 | int64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}
