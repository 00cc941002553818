package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"boxrun/e2e/testhost"
	"boxrun/launcher/list"
)

// The crowd is so many boxes that start at once, and its figures are of few rounds: each takes a while. The boxes run the
// program of builtin:hello alone, and Podman's containers nginx, as fifty systemds would be short of the kernel's inotify
// instances.
const (
	crowdSize   = 50
	crowdRounds = 5
	crowdPort   = 8100 // of the first box
)

// many is one who starts and stops a crowd, by a script for bash.
type many struct {
	name, up, stop string
	lives          []life
}

// manys are those who run in turn.
func manys() []many {
	const podman = "podman run -d --rm --name pod$i --pids-limit=0 --ulimit host -p $((%d + i)):80 --rootfs " + testhost.WebImage +
		":O nginx -g 'daemon off;'"
	return []many{
		{name: "boxrun", up: fmt.Sprintf("boxrun up --no-wait $(seq -f many@%%g %d %d)", crowdPort, crowdPort+crowdSize-1), stop: "boxrun down --all"},
		{name: "Podman", up: fmt.Sprintf("for i in $(seq 0 %d); do "+podman+" & done; wait", crowdSize-1, crowdPort), stop: "podman stop -t 30 -a"},
	}
}

// crowd prints how long a crowd takes from the command to the last first answer, and to stop, beside Podman, and how many
// connections a second a box takes alone and beside a crowd; where page is given, the tables go there.
func crowd(ctx context.Context, h *testhost.Host, bin string, rounds int, page string) error {
	rounds = min(rounds, crowdRounds)
	if err := writeCrowd(ctx, h); err != nil {
		return err
	}
	from, err := newClient(ctx, h)
	if err != nil {
		return err
	}
	defer from.close()
	all := manys()
	for round := range rounds + 1 { // the first warms caches and does not count
		for i := range all {
			l, err := all[i].live(ctx, h, from)
			if err != nil {
				return err
			}
			if round > 0 {
				all[i].lives = append(all[i].lives, l)
			}
			fmt.Fprintf(os.Stderr, "%d boxes, round %d: %s: last first answer %v, stop %v\n", crowdSize, round, all[i].name, l.answer, l.stop)
		}
	}
	probe, err := filepath.Abs(filepath.Join(bin, "probe"))
	if err != nil {
		return err
	}
	alone, beside, err := connections(ctx, h, from, probe, rounds)
	if err != nil {
		return err
	}
	table := crowdTable(all, alone, beside)
	fmt.Print(table)
	if page == "" {
		return nil
	}
	return place(page, "crowd", rounds, table)
}

// writeCrowd writes the profile of the boxes, whose instances are their ports.
func writeCrowd(ctx context.Context, h *testhost.Host) error {
	const profile = "image = \"builtin:hello\"\n[network]\nbridge = \"bench0\"\nsubnet = \"10.77.0.0/16\"\nports = [\"%i:80\"]\n"
	return h.Write(ctx, "/etc/boxrun/profiles/many.toml", 0o644, strings.NewReader(profile))
}

// script is spend for a script for bash.
func script(ctx context.Context, h *testhost.Host, text string) (cost, error) {
	const file = "/root/bench.sh"
	if err := h.Write(ctx, file, 0o755, strings.NewReader("set -e\n"+text+"\n")); err != nil {
		return cost{}, err
	}
	return spend(ctx, h, "bash "+file)
}

// live starts the crowd, waits for the first answer of each box, and stops the crowd.
func (m many) live(ctx context.Context, h *testhost.Host, from client) (l life, err error) {
	answered := make(chan error, 1)
	began := time.Now()
	go func() {
		err := from.allAnswer(ctx, crowdPort, crowdSize)
		l.answer = time.Since(began)
		answered <- err
	}()
	cost, err := script(ctx, h, m.up)
	if err := errors.Join(err, <-answered); err != nil {
		return l, fmt.Errorf("%s: %w", m.name, err)
	}
	stop, err := script(ctx, h, m.stop)
	l.up, l.cost, l.stop = cost.took, cost, stop.took
	return l, err
}

// allAnswer returns when each of so many ports has answered with HTTP 200 once.
func (c client) allAnswer(ctx context.Context, first, ports int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	asking := c.asking()
	answered := make([]bool, ports)
	for left := ports; left > 0; time.Sleep(20 * time.Millisecond) {
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d ports do not answer: %w", left, ports, ctx.Err())
		}
		var all sync.WaitGroup
		for i := range answered {
			if !answered[i] {
				all.Go(func() { answered[i] = answers(asking, first+i) })
			}
		}
		all.Wait()
		left = 0
		for _, yes := range answered {
			if !yes {
				left++
			}
		}
	}
	return nil
}

// answers reports whether a port of the host answers with HTTP 200.
func answers(asking *http.Client, port int) bool {
	answer, err := asking.Get("http://" + testhost.HostAddr + ":" + strconv.Itoa(port) + "/")
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// connections returns how many new connections a second a box takes alone and beside a crowd, in turn.
func connections(ctx context.Context, h *testhost.Host, from client, probe string, rounds int) (alone, beside []float64, err error) {
	one := fmt.Sprintf("boxrun up many@%d", crowdPort)
	others := fmt.Sprintf("boxrun up $(seq -f many@%%g %d %d)", crowdPort+1, crowdPort+crowdSize-1)
	for range rounds {
		for _, step := range []struct {
			up   string
			into *[]float64
		}{{one, &alone}, {others, &beside}} {
			if _, err := script(ctx, h, step.up); err != nil {
				return nil, nil, err
			}
			if err := from.allAnswer(ctx, crowdPort, 1); err != nil {
				return nil, nil, err
			}
			r, err := h.Client(ctx, probe, "rate", fmt.Sprintf("%s:%d", testhost.HostAddr, crowdPort), "2s")
			rate, noRate := strconv.ParseFloat(strings.TrimSpace(r.Stdout), 64)
			if err := errors.Join(err, noRate); err != nil {
				return nil, nil, fmt.Errorf("%w: %v", err, r)
			}
			*step.into = append(*step.into, rate)
		}
		if _, err := script(ctx, h, "boxrun down --all"); err != nil {
			return nil, nil, err
		}
	}
	return alone, beside, nil
}

// crowdTable returns the figures for a page.
func crowdTable(all []many, alone, beside []float64) string {
	seconds := func(lives []life, of func(life) time.Duration) []float64 {
		return list.Map(lives, func(l life) float64 { return of(l).Seconds() })
	}
	answer, stop := func(l life) time.Duration { return l.answer }, func(l life) time.Duration { return l.stop }
	var b strings.Builder
	fmt.Fprintf(&b, "| %d boxes | to the last first answer, s | of Podman's | stop, s | of Podman's |\n|---|---|---|---|---|\n", crowdSize)
	theirs := all[len(all)-1].lives
	for _, m := range all {
		fmt.Fprintf(&b, "| %s | %s | %.2f x | %s | %.2f x |\n", m.name,
			rates(seconds(m.lives, answer)), ratio(seconds(m.lives, answer), seconds(theirs, answer)),
			rates(seconds(m.lives, stop)), ratio(seconds(m.lives, stop), seconds(theirs, stop)))
	}
	b.WriteString("\n| new connections a second | | of those of a box alone |\n|---|---|---|\n")
	fmt.Fprintf(&b, "| a box alone | %s | 1.00 x |\n| a box beside %d others | %s | %.2f x |\n", rates(alone), crowdSize-1, rates(beside), ratio(beside, alone))
	return b.String()
}
