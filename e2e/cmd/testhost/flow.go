package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxrun/e2e/testhost"
	"boxrun/launcher/list"
)

// stream is a box, or what is compared with boxes, through which bytes flow in both directions.
type stream struct {
	name    string
	inner   []string // what runs a command there, from the host
	address string   // where the client finds its sink
	in, out []float64
}

// flowTime is how long each flow is measured: of seconds only the ratios get better.
const flowTime = "500ms"

// plainNetwork is a veth on a bridge that nobody has touched, and the host as the way out of it.
const plainNetwork = `ip netns add plain; ip link add plain0 type bridge; ip addr add 10.79.0.1/24 dev plain0; ip link set plain0 up
ip link add ve-plain type veth peer name eth0 netns plain; ip link set ve-plain master plain0 up
ip -n plain addr add 10.79.0.2/24 dev eth0; ip -n plain link set eth0 up; ip -n plain link set lo up
ip -n plain route add default via 10.79.0.1
`

// streams are what is measured in turn: first what the others are compared with.
func streams() []stream {
	all := []stream{{name: "a veth without boxrun", inner: inNetwork("plain"), address: "10.79.0.2:5001"}}
	for i, mode := range modes() {
		all = append(all, stream{name: "`offload = \"" + mode + "\"`", inner: inNetwork("flow-" + mode), address: fmt.Sprintf("%s:%d", testhost.HostAddr, 5101+i)})
	}
	return append(all, stream{name: "`offload = \"auto\"`, programs of the box", inner: []string{"boxrun", "exec", "flow-auto", "--"},
		address: testhost.HostAddr + ":5100"})
}

// inNetwork runs a command of the host in a network: not confined, and not in a box's cgroup.
func inNetwork(name string) []string { return []string{"ip", "netns", "exec", name} }

func modes() []string { return []string{"auto", "keep", "off", "off-out", "off-both"} }

// flow prints the throughput of a stream of TCP into boxes and out of them, beside that of a veth without boxrun, and
// where page is given writes the table there. All flow in turn, and a ratio is the median of the ratios of a round.
func flow(ctx context.Context, h *testhost.Host, bin string, rounds int, page string) (err error) {
	probe, err := filepath.Abs(filepath.Join(bin, "probe"))
	if err != nil {
		return err
	}
	sink, err := openStreams(ctx, h, probe)
	if err != nil {
		return err
	}
	defer func() {
		_ = sink.Process.Kill()
		_ = sink.Wait()
		_, down := spend(ctx, h, "boxrun down --all")
		err = errors.Join(err, down)
	}()
	all := streams()
	for round := range rounds + 1 {
		for i := range all {
			if err := all[i].measure(ctx, h, probe, round > 0); err != nil {
				return err
			}
		}
		fmt.Fprintf(os.Stderr, "throughput, round %d\n", round)
	}
	table := flowTable(all)
	fmt.Print(table)
	if page == "" {
		return nil
	}
	return place(page, "throughput", rounds, table)
}

// openStreams brings up the boxes and what they are compared with, a sink in the network of each, and a sink on the client,
// whose process is returned. The sinks of the host are services of the host, so that its scheduler treats them alike.
func openStreams(ctx context.Context, h *testhost.Host, probe string) (*exec.Cmd, error) {
	script := plainNetwork
	for i, mode := range modes() {
		// Each mode has a bridge of its own, as "off" is a bridge's for all its boxes.
		profile := fmt.Sprintf("image = %q\n[network]\nbridge = \"flow%d\"\nsubnet = \"10.8%[2]d.0.0/16\"\noffload = %q\nports = [\"%d:5001\"%s]\n"+
			"[storage]\nbinds = [\"/usr/local/bin/probe:/usr/local/bin/probe:ro\"]\n", testhost.WebImage, i, mode, 5101+i, map[string]string{"auto": `, "5100:5000"`}[mode])
		if err := h.Write(ctx, "/etc/boxrun/profiles/flow-"+mode+".toml", 0o644, strings.NewReader(profile)); err != nil {
			return nil, err
		}
		script += "boxrun up flow-" + mode + "; ip netns attach flow-" + mode + " $(boxrun status --json flow-" + mode + " | jq .pid)\n"
	}
	for _, s := range streams() {
		if network := s.inner[len(s.inner)-1]; network != "--" {
			script += "systemd-run -qu sink-" + network + " " + strings.Join(s.inner, " ") + " probe sink :5001\n"
		}
	}
	script += "boxrun exec flow-auto -- systemd-run -qu sink probe sink :5000\n"
	if r, err := h.Exec(ctx, "bash", "-ec", script); err != nil || r.Code != 0 {
		return nil, fmt.Errorf("bringing up what is to be measured: %v: %w", r, err)
	}
	if r, err := h.Client(ctx, "ip", "route", "replace", "10.79.0.0/24", "via", testhost.HostAddr); err != nil || r.Code != 0 {
		return nil, fmt.Errorf("leading the client to 10.79.0.0/24: %v: %w", r, err)
	}
	sink := h.ClientCommand(ctx, probe, "sink", ":5001")
	return sink, sink.Start()
}

// measure measures both directions once. A first round warms caches and does not count.
func (s *stream) measure(ctx context.Context, h *testhost.Host, probe string, counts bool) error {
	in, inErr := h.Client(ctx, probe, "flow", s.address, flowTime)
	out, outErr := h.Exec(ctx, slices.Concat(s.inner, []string{"probe", "flow", testhost.ClientAddr + ":5001", flowTime})...)
	into, noInto := strconv.ParseFloat(strings.TrimSpace(in.Stdout), 64)
	outOf, noOutOf := strconv.ParseFloat(strings.TrimSpace(out.Stdout), 64)
	if err := errors.Join(inErr, outErr, noInto, noOutOf); err != nil {
		return fmt.Errorf("%s: %w\n%v\n%v", s.name, err, in, out)
	}
	if counts {
		s.in, s.out = append(s.in, into), append(s.out, outOf)
	}
	return nil
}

// flowTable returns the throughput for a page. The first stream is what the others are compared with.
func flowTable(all []stream) string {
	var b strings.Builder
	b.WriteString("| | into it, Gbit/s | of a veth's | out of it, Gbit/s | of a veth's |\n|---|---|---|---|---|\n")
	for _, s := range all {
		fmt.Fprintf(&b, "| %s | %s | %.2f x | %s | %.2f x |\n", s.name, rates(s.in), ratio(s.in, all[0].in), rates(s.out), ratio(s.out, all[0].out))
	}
	return b.String()
}

// rates returns the median, and in brackets the least and the most.
func rates(values []float64) string {
	return fmt.Sprintf("%.1f (%.1f-%.1f)", median(values), slices.Min(values), slices.Max(values))
}

// ratio returns the median of the ratios of each round.
func ratio(values, to []float64) float64 {
	rounds := make([]int, len(values))
	for i := range rounds {
		rounds[i] = i
	}
	return median(list.Map(rounds, func(i int) float64 { return values[i] / to[i] }))
}
