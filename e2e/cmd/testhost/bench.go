package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"boxrun/e2e/testhost"
)

// crowd is the number of boxes in the measurement of "boxrun ps".
const crowd = 20

// bench prints how long boxrun takes compared with Apptainer alone. Runs of both alternate, and a ratio is the median
// of the ratios of the pairs. So a passing load on the machine slows both.
func bench(ctx context.Context, h *testhost.Host, rounds int) error {
	if err := writeBenchProfiles(ctx, h); err != nil {
		return err
	}
	const one = "boxrun up bench-one"
	many, ps := "boxrun up", fmt.Sprintf("ps with %d boxes\t%%v\t\t\t<= 30ms", crowd)
	for i := range crowd {
		many += " bench-crowd@" + strconv.Itoa(i)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "WHAT\tBOXRUN\tAPPTAINER\tRATIO\tAIM")
	for _, row := range []func() (string, error){
		func() (string, error) { return starts(ctx, h, rounds, "bench-one", 1, "<= 1.05") },
		func() (string, error) { return starts(ctx, h, rounds, "bench-many", 100, "<= 0.35") },
		func() (string, error) {
			return whileUp(ctx, h, rounds, one, one, "up of a box that is up\t%v\t\t\t<= 60ms")
		},
		func() (string, error) { return whileUp(ctx, h, rounds, many, "boxrun ps", ps) },
	} {
		text, err := row()
		if err != nil {
			return err
		}
		fmt.Fprintln(table, text)
	}
	return table.Flush()
}

// writeBenchProfiles writes profiles of boxes similar to Apptainer's. The boxes have a bridge of their own, as
// Apptainer never removes its bridge.
func writeBenchProfiles(ctx context.Context, h *testhost.Host) error {
	network := "[network]\nbridge = \"bench0\"\nsubnet = \"10.77.0.0/16\"\n"
	for name, text := range map[string]string{
		"bench-one":   "image = \"" + testhost.WebImage + "\"\n" + network + "ports = [\"8080:80\"]\n",
		"bench-many":  "image = \"" + testhost.WebImage + "\"\n" + network + "ports = [\"9000-9099:9000-9099\"]\n",
		"bench-crowd": "image = \"builtin:hello\"\n" + network,
	} {
		if err := h.Write(ctx, "/etc/boxrun/profiles/"+name+".toml", 0o644, strings.NewReader(text)); err != nil {
			return err
		}
	}
	return nil
}

// starts compares the start of a box with ports published ports, and returns a row of the table.
func starts(ctx context.Context, h *testhost.Host, rounds int, profile string, ports int, aim string) (string, error) {
	up := "boxrun up --no-wait " + profile
	raw := "apptainer instance start --boot --writable-tmpfs --bind /sys/fs/cgroup --net --network bridge --network-args " +
		portmaps(ports) + " " + testhost.WebImage + " raw"
	var ours, theirs []time.Duration
	var ratios []float64
	for range rounds {
		a, err := timed(ctx, h, up, "boxrun down "+profile)
		if err != nil {
			return "", err
		}
		b, err := timed(ctx, h, raw, "apptainer instance stop raw")
		if err != nil {
			return "", err
		}
		ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, float64(a)/float64(b))
	}
	return fmt.Sprintf("up --no-wait of a box with %d ports\t%v\t%v\t%.2f\t%s",
		ports, median(ours), median(theirs), median(ratios), aim), nil
}

// portmaps returns Apptainer's network arguments to publish n ports.
func portmaps(n int) string {
	if n == 1 {
		return "portmap=8080:80/tcp"
	}
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("portmap=%d:%d/tcp", 9000+i, 9000+i)
	}
	return strings.Join(list, ",")
}

// whileUp has up bring boxes up, measures line in every round, and takes the boxes down. row is the format of the
// result, a row of the table, for the median.
func whileUp(ctx context.Context, h *testhost.Host, rounds int, up, line, row string) (string, error) {
	if _, err := timed(ctx, h, up, "true"); err != nil {
		return "", err
	}
	var all []time.Duration
	for range rounds {
		took, err := timed(ctx, h, line, "true")
		if err != nil {
			return "", err
		}
		all = append(all, took)
	}
	_, err := timed(ctx, h, "boxrun down --all", "true")
	return fmt.Sprintf(row, median(all)), err
}

// timed runs line on the host, then after, and returns how long line took. The shell of the host measures the time, as
// boxrun is not to blame for the time to enter the host.
func timed(ctx context.Context, h *testhost.Host, line, after string) (time.Duration, error) {
	script := "start=${EPOCHREALTIME/./}; " + line + " >&2; echo $((${EPOCHREALTIME/./} - start)); " + after + " >&2"
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	r, err := h.Exec(ctx, "bash", "-ec", script)
	if err != nil {
		return 0, err
	}
	microseconds, err := strconv.Atoi(strings.TrimSpace(r.Stdout))
	if r.Code != 0 || err != nil {
		return 0, fmt.Errorf("running %q, then %q: %v", line, after, r)
	}
	return (time.Duration(microseconds) * time.Microsecond).Round(100 * time.Microsecond), nil
}

func median[T time.Duration | float64](values []T) T {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}
