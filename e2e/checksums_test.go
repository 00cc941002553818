package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"boxrun/launcher/doctor"
)

// checksumsProfile is a box that takes what comes to port 5001.
const checksumsProfile = `image = "/srv/web"
[network]
ports = ["5001", "5001/udp"]
offload = %q
[storage]
binds = ["/usr/local/bin/probe:/usr/local/bin/probe:ro"]
`

// way is a direction of packets between the client and the box.
type way struct {
	name    string
	capture func(h host) *exec.Cmd // where the packets arrive
	send    func(h host, packets string)
}

func ways() []way {
	capture := []string{"checksums", "eth0", "5001"}
	return []way{
		{"in", func(h host) *exec.Cmd {
			return h.Command(h.t.Context(), append([]string{"nsenter", "-t", strconv.Itoa(boxes(h)[0].PID), "-n", "probe"}, capture...)...)
		}, func(h host, packets string) { h.client(h.probe, "send", "192.0.2.1:5001", packets) }},
		{"out", func(h host) *exec.Cmd {
			return h.ClientCommand(h.t.Context(), append([]string{h.probe}, capture...)...)
		},
			func(h host, packets string) {
				h.must("boxrun", "exec", "web", "--", "probe", "send", "192.0.2.2:5001", packets)
			}},
	}
}

// captured sends packets and returns how their checksums were, by protocol.
func (w way) captured(h host, packets int) map[string]tally {
	h.t.Helper()
	cmd := w.capture(h)
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if inErr != nil || outErr != nil {
		h.t.Fatal(inErr, outErr)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		h.t.Fatalf("the capture says %q, %v", line, err)
	}
	w.send(h, strconv.Itoa(packets))
	in.Close()
	said, err := io.ReadAll(lines)
	if err := cmd.Wait(); err != nil {
		h.t.Fatal(err)
	}
	found := map[string]tally{}
	for line := range strings.Lines(string(said)) {
		var t tally
		proto, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, err := fmt.Sscanf(rest, "{whole:%d unfinished:%d wrong:%d}", &t.whole, &t.unfinished, &t.wrong); err != nil {
			h.t.Errorf("the capture says %q", line)
		}
		found[proto] = t
	}
	if err != nil || len(found) != 2 {
		h.t.Fatalf("the capture says %q, %v", said, err)
	}
	return found
}

// tally is how many packets had their checksum, were left to a device, and had a wrong checksum.
type tally struct{ whole, unfinished, wrong int }

// finished wants all packets of a direction finished, or some left to devices.
func (h host) finished(when string, want map[string]bool) {
	h.t.Helper()
	const packets = 10_000
	for _, w := range ways() {
		for proto, got := range w.captured(h, packets) {
			least := packets * 9 / 10 // of datagrams some may be lost on a busy machine
			if proto == "tcp" && !want[w.name] {
				least = 2 // many segments are one packet
			}
			switch {
			case got.wrong > 0 || got.whole+got.unfinished < least:
				h.t.Errorf("%s, %s, %s: got %+v, want at least %d and none wrong", when, w.name, proto, got, least)
			case want[w.name] && got.unfinished > 0:
				h.t.Errorf("%s, %s, %s: got %+v, want every packet with its checksum", when, w.name, proto, got)
			case !want[w.name] && got.whole > got.unfinished:
				h.t.Errorf("%s, %s, %s: got %+v, want checksums left to devices", when, w.name, proto, got)
			}
		}
	}
}

// Packets have their checksums where the profile or the driver of an uplink wants so, and nowhere else: nothing is off
// beside an uplink that needs nothing. The way is one with an MTU of 1400, over devices that take many segments as one
// packet and make one packet of many.
func TestChecksums(t *testing.T) {
	h := newHost(t)
	h.serve(h.probe, "sink", ":5001")
	h.sh("ip link set eth0 mtu 1400; ethtool -K eth0 gro on")
	h.client("ip", "link", "set", "eth0", "mtu", "1400")
	for name, got := range map[string]string{"host": h.must("ethtool", "-k", "eth0"), "client": h.client("ethtool", "-k", "eth0")} {
		if !strings.Contains(got, "\ntcp-segmentation-offload: on\n") || name == "host" && !strings.Contains(got, "\ngeneric-receive-offload: on\n") {
			t.Fatalf("the %s's device is not as it should be:\n%s", name, got)
		}
	}
	up := func(h host, offload string) {
		h.t.Helper()
		h.profile("web", fmt.Sprintf(checksumsProfile, offload))
		h.must("boxrun", "up", "web")
		h.sinks()
	}
	for _, mode := range []struct {
		name string
		want map[string]bool
		says []string
	}{
		{"off", map[string]bool{"in": true}, []string{"into the box: by network.offload"}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			h := h.in(t)
			up(h, mode.name)
			h.finished("with "+mode.name, mode.want)
			if got := h.must("boxrun", "status", "web"); !containsAll(got, mode.says) || strings.Contains(got, "drifted") {
				t.Errorf("status says\n%swant %q", got, mode.says)
			}
			h.must("boxrun", "down", "web")
		})
	}
	h.bridgeStaysFinished()
	up(h, "auto")
	h.finished("by default", nil)
	if got := h.must("ethtool", "-k", "sbr0"); !strings.Contains(got, "tx-checksumming: on") {
		t.Errorf("by default offload is off on the bridge:\n%s", got)
	}
	h.followsUplinks()
}

// bridgeStaysFinished has a box with offload off go before another on its bridge: the bridge stays as it was for that box until
// the last box goes, and nobody is said to have drifted.
func (h host) bridgeStaysFinished() {
	h.t.Helper()
	h.profile("web", fmt.Sprintf(checksumsProfile, "off"))
	h.must("boxrun", "up", "web", "hello")
	h.must("boxrun", "down", "web")
	if got := h.must("ethtool", "-k", "sbr0"); !strings.Contains(got, "tx-checksumming: off") {
		h.t.Errorf("after the box with offload off the bridge has\n%s", got)
	}
	if got := h.must("boxrun", "status", "hello"); !strings.Contains(got, "in place") || strings.Contains(got, "offload:") {
		h.t.Errorf("the other box has status\n%s", got)
	}
	h.must("boxrun", "down", "hello")
	if r := h.run("ip", "link", "show", "sbr0"); r.Code == 0 {
		h.t.Errorf("after the last box there is %s", r.Stdout)
	}
}

// sinks has the box take what comes.
func (h host) sinks() {
	h.t.Helper()
	h.must("boxrun", "exec", "web", "--", "systemd-run", "-qu", "sink", "probe", "sink", ":5001")
	if got := eventually(20*time.Second, func() string {
		if h.must("boxrun", "exec", "web", "--", "ss", "-Htln", "sport = :5001") != "" {
			return ""
		}
		return "nothing listens"
	}); got != "" {
		h.t.Fatal(got)
	}
}

// followsUplinks adds an uplink that needs checksums made before, and takes it away.
func (h host) followsUplinks() {
	h.t.Helper()
	h.sh("ip link add vxlan0 type vxlan id 7 dstport 4789 local 192.0.2.1 remote 192.0.2.2; ip addr add 198.51.100.1/24 dev vxlan0; ip link set vxlan0 up")
	const drifted = "offload of eth0 in the box is on, and vxlan0 (driver vxlan) needs it off"
	if got := h.must("boxrun", "status", "web"); !containsAll(got, []string{"drifted", drifted}) {
		h.t.Errorf("with a tunnel, status says\n%s", got)
	}
	h.finds(h.checks("web"), doctor.Fail, "offload", drifted)
	if got := h.must("boxrun", "up", "--dry-run", "web"); !strings.Contains(got, "nsenter -t $PID -n ethtool -K eth0 tx off") {
		h.t.Errorf("with a tunnel, a dry run says\n%s", got)
	}
	h.must("boxrun", "repair")
	h.finished("with a tunnel", map[string]bool{"out": true})
	h.must("boxrun", "restart", "web")
	if got := h.must("boxrun", "status", "web"); strings.Contains(got, "drifted") || !strings.Contains(got, "vxlan0 (driver vxlan) wraps") {
		h.t.Errorf("after a restart, status says\n%s", got)
	}
	h.sh("ip link del vxlan0")
	if got := h.run("boxrun", "repair"); !strings.Contains(got.Stderr, "offload of eth0 in the box is off, and no uplink needs that any more") {
		h.t.Errorf("without the tunnel, repair says\n%v", got)
	}
	h.sinks()
	h.finished("without the tunnel", nil)
	if got := h.must("boxrun", "status", "web"); strings.Contains(got, "drifted") || strings.Contains(got, "offload") {
		h.t.Errorf("without the tunnel, status says\n%s", got)
	}
}
