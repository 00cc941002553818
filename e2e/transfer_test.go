package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/doctor"
)

// careless is a program of classic BPF for tc that drops packets whose checksum of TCP or UDP is the kernel's note that
// one is to be made: what comes of packets under devices and programs that know nothing of such notes. The note is the
// sum of the pseudo header.
func careless() []unix.SockFilter {
	const (
		half, eight = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		equal       = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		give        = unix.BPF_RET | unix.BPF_K
		toX         = unix.BPF_MISC | unix.BPF_TAX
		addX        = unix.BPF_ALU | unix.BPF_ADD | unix.BPF_X
		head        = 14 // of Ethernet; 20 of IPv4 follow
		pass, drop  = 0, 2
	)
	program := []unix.SockFilter{{Code: half, K: 12}, {Code: equal, K: unix.ETH_P_IP, Jt: 1}, {Code: give, K: pass}, {Code: half, K: head + 12}}
	for _, at := range []uint32{14, 16, 18} { // the rest of both addresses
		program = append(program, unix.SockFilter{Code: toX}, unix.SockFilter{Code: half, K: head + at}, unix.SockFilter{Code: addX})
	}
	program = append(program, // the protocol, and the length behind the head
		unix.SockFilter{Code: toX}, unix.SockFilter{Code: eight, K: head + 9}, unix.SockFilter{Code: addX},
		unix.SockFilter{Code: toX}, unix.SockFilter{Code: half, K: head + 2},
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_SUB | unix.BPF_K, K: 20}, unix.SockFilter{Code: addX})
	for range 2 { // folded into 16 bits
		program = append(program, unix.SockFilter{Code: unix.BPF_ST}, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 16},
			unix.SockFilter{Code: toX}, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_MEM},
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xffff}, unix.SockFilter{Code: addX})
	}
	return append(program, unix.SockFilter{Code: toX}, unix.SockFilter{Code: eight, K: head + 9},
		unix.SockFilter{Code: equal, K: unix.IPPROTO_TCP, Jf: 2},
		unix.SockFilter{Code: half, K: head + 20 + 16}, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
		unix.SockFilter{Code: half, K: head + 20 + 6},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X, Jf: 1}, unix.SockFilter{Code: give, K: drop}, unix.SockFilter{Code: give, K: pass})
}

// carelessAt puts the program before what comes in by a device, seen by a process, or by the host for 0.
func (h host) carelessAt(pid int, device string) {
	h.t.Helper()
	var text strings.Builder
	program := careless()
	fmt.Fprintf(&text, "%d,", len(program))
	for _, op := range program {
		fmt.Fprintf(&text, "%d %d %d %d,", op.Code, op.Jt, op.Jf, op.K)
	}
	enter := ""
	if pid > 0 {
		enter = fmt.Sprintf("nsenter -t %d -n ", pid)
	}
	h.sh(fmt.Sprintf("%[1]stc qdisc add dev %[2]s clsact; %[1]stc filter add dev %[2]s ingress bpf da bytecode '%[3]s'", enter, device, &text))
}

// veth returns the host's end of the veth of the only box.
func (h host) veth() string {
	h.t.Helper()
	return strings.TrimSpace(h.sh("ls /sys/class/net/sbr0/brif"))
}

// A device that drops packets whose checksums were left to it is seen by doctor's transfer, in the direction in which it
// stands, and what doctor says to set mends that.
func TestDoctorSeesLostChecksums(t *testing.T) {
	h := newHost(t)
	h.answerNames()
	const plain = "image = \"/srv/web\"\n[network]\nports = [\"8080:80\"]\n[ready]\ntcp = [80]\n"
	for _, c := range []struct {
		name, mode string
		found      string
		breaks     func(h host)
	}{
		{"out of the box", "off-out", "packets out of the box do not arrive, but for those that need no checksum",
			func(h host) { h.carelessAt(0, h.veth()) }},
		{"into the box", "off", "packets into the box have no checksum yet, and are not taken",
			func(h host) { h.carelessAt(boxes(h)[0].PID, "eth0") }},
		{"both", "off-both", "packets out of the box do not arrive", func(h host) {
			h.carelessAt(0, h.veth())
			h.carelessAt(boxes(h)[0].PID, "eth0")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.profile("web", plain)
			h.must("boxrun", "up", "web")
			if got := trouble(h.checks("web")); got != "" {
				t.Fatalf("before anything, doctor found\n%s", got)
			}
			c.breaks(h)
			for range 3 { // a fix for each direction
				if !h.mendsChecksums(plain, c.found, c.breaks) {
					break
				}
			}
			if got := h.must("cat", "/etc/boxrun/profiles/web.toml"); !strings.Contains(got, strconv.Quote(c.mode)) {
				t.Errorf("doctor has set\n%s\nwant %s", got, c.mode)
			}
			if got := trouble(h.checks("web")); got != "" {
				t.Errorf("after the fix, doctor found\n%s\nwant nothing", got)
			}
			h.must("boxrun", "down", "web")
		})
	}
	t.Run("spoilt", func(t *testing.T) { h.in(t).spoils(plain) })
}

// mendsChecksums does what doctor's transfer says to do, and reports whether there was anything to do.
func (h host) mendsChecksums(plain, found string, breaks func(host)) bool {
	h.t.Helper()
	checks := h.checks("web")
	i := slices.IndexFunc(checks, func(c doctor.Check) bool { return c.Name == "out transfer" && c.Status == doctor.Fail })
	if i < 0 {
		return false
	}
	if !strings.Contains(checks[i].Found, found) && !strings.Contains(found, "out of") {
		h.t.Errorf("doctor found %q, want %q", checks[i].Found, found)
	}
	setting, rest, _ := strings.Cut(strings.TrimPrefix(checks[i].Fix, "set network."), " in ")
	if rest != "/etc/boxrun/profiles/web.toml, and boxrun restart web" {
		h.t.Fatalf("the fix is %q, want a setting of the profile", checks[i].Fix)
	}
	h.profile("web", strings.Replace(plain, "ports", setting+"\nports", 1))
	h.must("boxrun", "restart", "web")
	breaks(h)
	return true
}

// spoils has a program stand between the box and its bridge that hands frames on without the kernel's notes.
func (h host) spoils(plain string) {
	h.t.Helper()
	h.profile("web", plain)
	h.must("boxrun", "up", "web")
	veth := h.veth()
	h.sh("ip link add hop0 type veth peer name hop1; ip link set hop0 up; ip link set hop1 master sbr0 up; ip link set " + veth + " nomaster; " +
		"systemd-run -qu hop --service-type=exec probe hop " + veth + " hop0")
	h.finds(h.checks("web"), doctor.Fail, "out transfer", "packets out of the box do not arrive, but for those that need no checksum")
	h.sh("systemctl stop hop; ip link del hop0; ip link set " + veth + " master sbr0")
	h.must("boxrun", "doctor", "web", "--fix")
	h.must("boxrun", "down", "web")
}

// A doctor who is killed while a transfer hangs leaves nothing.
func TestDoctorKilledInATransfer(t *testing.T) {
	h := newHost(t)
	h.answerNames()
	h.must("boxrun", "up", "web")
	before := h.dump()
	h.carelessAt(boxes(h)[0].PID, "eth0")
	h.sh("boxrun doctor web > /dev/null 2>&1 & until nsenter -t " + strconv.Itoa(boxes(h)[0].PID) + " -n ss -Htn state established dst 198.18.0.0/15 | grep -q .; do :; done; " +
		"kill -9 $!; wait $! || true")
	if got := eventually(20*time.Second, func() string { return h.sh("ip -br link | grep boxrun-d || true; ss -0 -H") }); got != "" {
		t.Errorf("a killed doctor left\n%s", got)
	}
	h.sh("nsenter -t " + strconv.Itoa(boxes(h)[0].PID) + " -n tc qdisc del dev eth0 clsact; boxrun doctor --fix > /dev/null")
	h.same(before)
}
