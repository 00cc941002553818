package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"boxrun/e2e/testhost"
	"boxrun/launcher/doctor"
)

// doctorProfile is a box whose port 7000 is answered by probe on all its addresses, and whose name server is the client.
const doctorProfile = `
image = "/srv/web"
[network]
ports = ["8080:80", "7000", "5300/udp", "127.0.0.1:7020:7000"]
offload = "off"
[storage]
binds = ["/usr/local/bin/probe:/usr/local/bin/probe:ro"]
[ready]
units = ["nginx.service"]
tcp   = [80, 7000]
`

// doctorHost boots a host with the box "web" up and a client that answers names.
func doctorHost(t *testing.T) host {
	h := newHost(t)
	h.answerNames()
	h.profile("web", doctorProfile)
	h.must("boxrun", "up", "web")
	return h
}

// answerNames has the client answer every question for a name with "no such name", until the test ends.
func (h host) answerNames() {
	h.t.Helper()
	conn := make(chan net.PacketConn, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		ns, err := netns.GetFromName(h.Name() + "-c")
		if err == nil {
			err = netns.Set(ns)
		}
		if err != nil {
			h.t.Error(err)
		}
		c, err := net.ListenPacket("udp4", testhost.ClientAddr+":53")
		if err != nil {
			h.t.Error(err)
		}
		conn <- c
	}()
	c := <-conn
	if c == nil {
		h.t.FailNow()
	}
	h.t.Cleanup(func() { c.Close() })
	go func() {
		question := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(question)
			if err != nil {
				return
			}
			answer := slices.Clone(question[:n])
			if n > 3 { // else somebody looks whether anything comes back
				answer[2], answer[3] = 0x81, 0x83 // an answer; recursion is available; no such name
			}
			_, _ = c.WriteTo(answer, from)
		}
	}()
}

// checks runs doctor on the host and gives what it found. Its exit code has to go with that.
func (h host) checks(args ...string) []doctor.Check {
	h.t.Helper()
	r := h.run(append([]string{"boxrun", "doctor", "--json"}, args...)...)
	var checks []doctor.Check
	if err := json.Unmarshal([]byte(r.Stdout), &checks); err != nil {
		h.t.Fatalf("boxrun doctor %v: %v\n%v", args, err, r)
	}
	if failed := doctor.Failed(checks); failed != (r.Code == 1) || !failed && r.Code != 0 {
		h.t.Errorf("boxrun doctor %v: exit code %d with\n%s", args, r.Code, trouble(checks))
	}
	return checks
}

// trouble gives the checks that warn or failed.
func trouble(checks []doctor.Check) string {
	var lines strings.Builder
	for _, c := range checks {
		if c.Status == doctor.Warn || c.Status == doctor.Fail {
			fmt.Fprintf(&lines, "%s %s %s: %s\n  why: %s\n  fix: %s\n", c.Status, c.Area, c.Name, c.Found, c.Why, c.Fix)
		}
	}
	return lines.String()
}

// finds wants a check that did not pass, with words in what it found.
func (h host) finds(checks []doctor.Check, status doctor.Verdict, name string, words ...string) {
	h.t.Helper()
	for _, c := range checks {
		if c.Name == name && c.Status == status && containsAll(c.Found, words) {
			return
		}
	}
	h.t.Errorf("doctor found\n%s\nwant %s %s with %q", trouble(checks), status, name, words)
}

func TestDoctorOnAHealthyHost(t *testing.T) {
	h := doctorHost(t)
	before := h.dump()
	began := time.Now()
	checks := h.checks("web")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("doctor took %s, want 5 s at most", took)
	}
	if got := trouble(checks); got != "" {
		t.Errorf("doctor found\n%s\nwant nothing", got)
	}
	h.same(before)
	if got := h.must("sh", "-c", "conntrack -L 2> /dev/null | grep 198.18 || true"); got != "" {
		t.Errorf("doctor left tracked connections:\n%s", got)
	}
	for _, name := range []string{"7000/tcp listens", "7000/tcp dnat", "7000/tcp forward", "7000/tcp connection", "5300/udp connection",
		"out gateway", "out transfer", "out names", "out ping as a user"} {
		if !slices.ContainsFunc(checks, func(c doctor.Check) bool { return c.Name == name && c.Area == "web" }) {
			t.Errorf("doctor has no check %q", name)
		}
	}
	for _, name := range checksOnThePage(t) {
		if name == "cloud" || name == "undone" { // on a machine of a cloud alone, and where others undo what boxrun puts back
			continue
		}
		if !slices.ContainsFunc(checks, func(c doctor.Check) bool { return c.Name == name }) {
			t.Errorf("the page of symptoms names the check %q, and doctor has none", name)
		}
	}
	if i := slices.IndexFunc(checks, func(c doctor.Check) bool { return c.Name == "starter-suid" }); i < 0 || !strings.Contains(checks[i].Found, "is not needed") {
		t.Error("doctor does not say that suid is not needed")
	}
	if r := h.run("boxrun", "doctor", "nobody"); r.Code != 3 {
		t.Errorf("doctor of no box: %v, want exit code 3", r)
	}
	text := h.must("boxrun", "doctor")
	if !strings.Contains(text, "PASS  web        7000/tcp connection") {
		t.Errorf("doctor without a name prints\n%s\nwant the box's ports as well", text)
	}
	h.showsProblems()
	h.fitsTables()
}

// showsProblems wants a terminal to show what is wrong alone, with its colour unless NO_COLOR is set, and -v to show all.
func (h host) showsProblems() {
	h.sh("touch /etc/sysctl.d/99-apptainer-universal.conf")
	defer h.sh("rm /etc/sysctl.d/99-apptainer-universal.conf")
	const head, passed = "WARN  leftovers: old sysctl file\r\n      /etc/sysctl.d/99", "PASS  web        "
	coloured := strings.NewReplacer("WARN", "\x1b[33mWARN\x1b[0m", "PASS", "\x1b[32mPASS\x1b[0m")
	const port = "PASS  web        7000/tcp connection"
	for _, c := range []struct {
		script       string
		want, hidden []string
	}{
		{"boxrun doctor", []string{coloured.Replace(head), coloured.Replace(passed)}, []string{port}},
		{"NO_COLOR=1 boxrun doctor", []string{head, passed}, []string{"\x1b", port}},
		{"boxrun doctor -v", []string{"WARN  leftovers  old sysctl file  ", port}, nil},
	} {
		r, err := h.terminal("bash", "-c", c.script).Wait(10 * time.Second)
		shown := slices.ContainsFunc(c.hidden, func(word string) bool { return strings.Contains(r.Stdout, word) })
		if err != nil || r.Code != 0 || !containsAll(r.Stdout, c.want) || shown {
			h.t.Errorf("%s: %v, %v, want %q and nothing of %q", c.script, r, err, c.want, c.hidden)
		}
	}
}

// fitsTables wants no row of a table to be wider than the terminal, and whole rows elsewhere.
func (h host) fitsTables() {
	h.sh("mkdir -p /var/lib/boxrun/" + strings.Repeat("long", 15) + "/own")
	for verb, shown := range map[string][2]string{ // what begins a line on 80 columns, and on 40
		"ps":                {"NAME  STATE    ENABLED  ADDRESS    PORTS ", "NAME  STATE    ENABLED  ADDRESS\r"},
		"stats --no-stream": {"NAME  CPU%  MEM", "NAME  CPU%  MEM"},
		"profile list":      {"NAME        FILE                            DESCRIPTION\r", "NAME        FILE"},
		"kept list":         {strings.Repeat("long", 15) + "/own ", strings.Repeat("long", 7) + "lon...  0B\r"},
		"status web":        {"name:        web", "name:        web"},
		"diff web":          {"", ""},
	} {
		for i, columns := range []uint16{80, 40} {
			h.fitsTable(verb, columns, shown[i])
		}
	}
	if got := h.must("boxrun", "ps"); !strings.Contains(got, "127.0.0.1:7020->7000") {
		h.t.Errorf("ps without a terminal: %s, want all ports", got)
	}
	h.sh("boxrun kept list | grep '^" + strings.Repeat("long", 15) + "/own .*/own$'; boxrun kept rm -y " + strings.Repeat("long", 15))
}

// fitsTable wants the rows of a verb to fit a terminal of columns, but for a single word that is too long for any row, and
// shown on the terminal.
func (h host) fitsTable(verb string, columns uint16, shown string) {
	term, err := h.Terminal(h.t.Context(), 24, columns, strings.Fields("boxrun "+verb)...)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := term.Wait(10 * time.Second)
	if err != nil || r.Code != 0 || !strings.Contains("\n"+r.Stdout, "\n"+shown) {
		h.t.Errorf("boxrun %s on %d columns: %v, %v, want %q", verb, columns, r, err, shown)
	}
	for line := range strings.Lines(r.Stdout) {
		if strings.HasPrefix(line, "boxrun: ") {
			continue // a note, and no row
		}
		if line = strings.TrimRight(line, "\r\n "); len(line) > int(columns) && len(strings.Fields(line)) > 2 {
			h.t.Errorf("boxrun %s on %d columns: %d in %q", verb, columns, len(line), line)
		}
	}
}

// checksOnThePage gives the names of checks in the table "By symptom" of the page: those in backticks, in its second column.
func checksOnThePage(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| what you see | doctor's check |")
	table, _, _ = strings.Cut(table, "\n\n")
	var names []string
	for row := range strings.Lines(table) {
		if cells := strings.Split(row, "|"); len(cells) > 2 {
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[2], -1) {
				names = append(names, m[1])
			}
		}
	}
	if len(names) < 10 {
		t.Errorf("the page names the checks %q, want more of them", names)
	}
	return names
}

// symptom is one of those that people know, with a cause that is set up for real.
type symptom struct {
	name   string
	script string // sets it up
	shows  string // a command on the host that fails while it is there, and succeeds without; "": nothing to see from the host
	asks   string // the same for the client's probe: an address that does not answer
	loads  string // the same for the client's curl: a large page
	status doctor.Verdict
	check  string   // the one that names it
	words  []string // in what it found
	sees   string   // another check that has to fail
	undo   string   // where boxrun may not mend it: what its administrator does
}

const inBox = "boxrun exec web -- "

func symptoms() []symptom {
	const reachOut = inBox + "probe tcp 192.0.2.2:6001"
	const ask = inBox + "sh -c 'echo x | socat -t 2 - UDP:192.0.2.2:53 | grep -q .'"
	return []symptom{
		{name: "no outbound: forwarding off", script: "sysctl -qw net.ipv4.ip_forward=0", shows: reachOut,
			status: doctor.Fail, check: "ip_forward", words: []string{"ip_forward is 0"}},
		{name: "no outbound: masquerade gone", script: "iptables -t nat -F BOXRUN-SNAT", shows: reachOut,
			status: doctor.Fail, check: "masquerade", words: []string{"MASQUERADE"}},
		{name: "no outbound: another rule first", script: "iptables -I FORWARD -i sbr0 -j DROP", shows: reachOut,
			status: doctor.Fail, check: "other rules that drop", words: []string{"-A FORWARD -i sbr0 -j DROP"}},
		{name: "no outbound: a native rule of others", script: "nft 'add table inet site; add chain inet site forward " +
			"{ type filter hook forward priority 10; policy accept; }; add rule inet site forward iifname \"sbr0\" drop'", shows: reachOut,
			status: doctor.Fail, check: "other rules that drop", words: []string{"inet site forward"}, undo: "nft delete table inet site"},
		{name: "no outbound: no default route", script: inBox + "ip route del default", shows: reachOut,
			status: doctor.Fail, check: "out gateway", words: []string{"none"}, undo: inBox + "ip route add default via 10.22.0.1; " +
				inBox + "systemctl restart probe"}, // it ends when it cannot answer
		{name: "inbound refused: the service is down", script: inBox + "systemctl stop probe", asks: "192.0.2.1:7000",
			status: doctor.Fail, check: "7000/tcp listens", words: []string{"nothing listens on 7000/tcp"}, undo: inBox + "systemctl start probe"},
		{name: "inbound refused: on 127.0.0.1 alone", script: inBox + "systemctl stop probe; " + inBox +
			"systemd-run -qu loop probe serve box tcp/127.0.0.1:7000", asks: "192.0.2.1:7000",
			status: doctor.Fail, check: "7000/tcp listens", words: []string{"probe", "127.0.0.1 alone"},
			undo: inBox + "systemctl stop loop; " + inBox + "systemctl start probe"},
		{name: "inbound refused: no DNAT", script: "iptables -t nat -F BOXRUN-DN-web", asks: "192.0.2.1:7000",
			status: doctor.Fail, check: "7000/tcp dnat", words: []string{"no rule sends"}},
		{name: "inbound timing out: another rule first", script: "iptables -I FORWARD -o sbr0 -j DROP", asks: "192.0.2.1:7000",
			status: doctor.Fail, check: "7000/tcp forward", words: []string{"-A FORWARD -o sbr0 -j DROP"}},
		{name: "inbound timing out: Docker's policy", script: "iptables -P FORWARD DROP; iptables -D FORWARD -m comment --comment boxrun:host -j BOXRUN-FWD",
			asks: "192.0.2.1:7000", status: doctor.Fail, check: "7000/tcp forward", words: []string{"-P FORWARD DROP"}},
		{name: "inbound timing out: a native policy of others", script: "nft 'add table inet site; add chain inet site forward " +
			"{ type filter hook forward priority 10; policy drop; }'", asks: "192.0.2.1:7000",
			status: doctor.Fail, check: "7000/tcp forward", words: []string{"inet site forward", "policy drop"}, undo: "nft delete table inet site"},
		{name: "inbound timing out: dropped before anything", script: "iptables -t raw -I PREROUTING -p tcp --dport 7000 -j DROP",
			asks: "192.0.2.1:7000", status: doctor.Fail, check: "7000/tcp forward", words: []string{"-t raw", "--dport 7000"},
			undo: "iptables -t raw -D PREROUTING -p tcp --dport 7000 -j DROP"},
		{name: "inbound timing out: a rule in the other backend", script: "iptables-legacy -A FORWARD -o sbr0 -j DROP",
			asks: "192.0.2.1:7000", status: doctor.Fail, check: "7000/tcp forward", words: []string{"iptables-legacy", "-o sbr0 -j DROP"},
			undo: "iptables-legacy -D FORWARD -o sbr0 -j DROP"},
		{name: "inbound timing out: a rule to a dead address", script: "iptables -t nat -I PREROUTING -p tcp --dport 7000 -j DNAT --to-destination 10.22.0.99:7000",
			asks: "192.0.2.1:7000", status: doctor.Fail, check: "7000/tcp dnat", words: []string{"10.22.0.99"},
			// Ours stands first again, and the other one stays and is named.
			undo: "boxrun doctor web --fix > /dev/null || true; iptables -t nat -D PREROUTING -p tcp --dport 7000 -j DNAT --to-destination 10.22.0.99:7000"},
		{name: "inbound going elsewhere: a native rule of others", script: "nft 'add table inet site; add chain inet site pre " +
			"{ type nat hook prerouting priority -110; }; add rule inet site pre tcp dport 7000 dnat ip to 192.0.2.2:81'", asks: "192.0.2.1:7000",
			status: doctor.Fail, check: "7000/tcp dnat", words: []string{"shadowed", "inet site pre tcp dport 7000 dnat ip to 192.0.2.2:81"},
			undo: "boxrun up web 2>&1 | grep 'port 7000/tcp goes elsewhere, by nft rule inet site pre tcp dport 7000'; nft delete table inet site"},
		{name: "inbound timing out: the box moved", script: inBox + "sh -c 'ip addr add 10.22.9.9/16 dev eth0; ip addr del $(ip -br -4 addr show eth0 | " +
			"grep -o \"10.22.0.[0-9]*/16\") dev eth0; ip addr show eth0 | grep -q 10.22.9.9 || ip addr add 10.22.9.9/16 dev eth0; ip route replace default via 10.22.0.1'",
			asks: "192.0.2.1:7000", status: doctor.Fail, check: "address", words: []string{"10.22.9.9"}},
		{name: "hang after the handshake: MSS", script: "ip link set eth0 mtu 1400; iptables -I OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP; " +
			"iptables -t mangle -F BOXRUN-MSS", loads: "http://192.0.2.1:8080/large",
			status: doctor.Fail, check: "packet size (mss)", words: []string{"TCPMSS"}, sees: "out transfer",
			undo: "boxrun doctor web --fix || true; ip link set eth0 mtu 1500"}, // the smaller MTU is named too, and stays
		{name: "hang after the handshake: offload", script: "ethtool -K sbr0 tx on sg on gso on; for veth in $(ls /sys/class/net/sbr0/brif); do ethtool -K $veth tx on sg on gso on; done",
			status: doctor.Fail, check: "offload", words: []string{"tx-checksum"}},
		{name: "ping as root only", script: inBox + "sh -c 'cp /usr/bin/ping /root/ping && mv -f /root/ping /usr/bin/ping; sysctl -qw net.ipv4.ping_group_range=\"1 0\"'", shows: "boxrun exec -u bob web -- ping -c 1 -W 1 127.0.0.1",
			status: doctor.Fail, check: "out ping as a user", words: []string{"ping_group_range"}},
		{name: "DNS fails: a rule of others", script: "iptables -I FORWARD -p udp --dport 53 -j DROP", shows: ask,
			status: doctor.Fail, check: "out names", words: []string{"--dport 53 -j DROP"}},
		{name: "DNS fails: a stub that is not there", script: inBox + "sh -c 'umount /etc/resolv.conf; echo nameserver 127.0.0.53 > /etc/resolv.conf'",
			status: doctor.Fail, check: "out names", words: []string{"127.0.0.1 that is not there"}, undo: "boxrun restart web"},
	}
}

func TestDoctorNamesTheCauseOfSymptoms(t *testing.T) {
	h := doctorHost(t)
	h.serve(h.probe, "serve", "client", "tcp/:6001")
	h.must("boxrun", "exec", "web", "--", "dd", "if=/dev/zero", "of=/var/www/html/large", "bs=1M", "count=2", "status=none")
	for _, s := range symptoms() {
		t.Run(s.name, func(t *testing.T) { h.in(t).suffers(s) })
	}
}

// suffers sets a symptom up, and wants it named, and gone when it was mended.
func (h host) suffers(s symptom) {
	h.t.Helper()
	if got := h.works(s); got != "" {
		h.t.Fatalf("before anything, %s", got)
	}
	h.sh(s.script)
	if got := h.works(s); got == "" && s.shows+s.asks+s.loads != "" {
		h.t.Errorf("it has no effect: %s", s.script)
	}
	checks := h.checks("web")
	h.finds(checks, s.status, s.check, s.words...)
	if s.sees != "" {
		h.finds(checks, doctor.Fail, s.sees)
	}
	if s.undo == "" {
		h.run("boxrun", "doctor", "web", "--fix")
	} else {
		h.sh(s.undo)
	}
	// A service that was started anew takes a moment.
	if got := eventually(20*time.Second, func() string { return trouble(h.checks("web")) }); got != "" {
		h.t.Errorf("after it was mended, doctor found\n%s\nwant nothing", got)
	}
	if got := h.works(s); got != "" {
		h.t.Errorf("after it was mended, %s", got)
	}
	h.sh("ip link set eth0 mtu 1500; iptables -F OUTPUT; iptables -P FORWARD ACCEPT; " +
		"for rule in '-i sbr0' '-o sbr0' '-p udp --dport 53'; do iptables -D FORWARD $rule -j DROP 2> /dev/null || true; done")
}

// works says what of the symptom's own tests fails.
func (h host) works(s symptom) string {
	h.t.Helper()
	if s.shows != "" {
		if r := h.run("bash", "-c", s.shows); r.Code != 0 {
			return fmt.Sprintf("%s: %v", s.shows, r)
		}
	}
	if s.asks != "" {
		if r := h.askers()["client"]("tcp", s.asks); r.Code != 0 {
			return fmt.Sprintf("the client asks %s: %v", s.asks, r)
		}
	}
	if s.loads != "" {
		r, err := h.Client(h.t.Context(), "curl", "-sf", "-m", "4", "-o", "/dev/null", s.loads)
		if err != nil {
			h.t.Fatal(err)
		}
		if r.Code != 0 {
			return fmt.Sprintf("the client loads %s: %v", s.loads, r)
		}
	}
	return ""
}

// What the scripts before boxrun have left is named, and stays.
func TestDoctorNamesWhatOldScriptsLeft(t *testing.T) {
	h := doctorHost(t)
	h.sh(`mkdir -p /etc/sysctl.d /etc/udev/rules.d
echo net.ipv4.ip_forward=1 > /etc/sysctl.d/99-apptainer-universal.conf
echo 'ACTION=="add", SUBSYSTEM=="net", KERNEL=="veth*", RUN+="/sbin/ethtool -K %k tx off"' > /etc/udev/rules.d/99-veth-offload.rules
echo '{"cniVersion": "1.0.0", "name": "my_bridge", "plugins": [{"type": "bridge", "bridge": "sbr0"}]}' > /etc/apptainer/network/20-bridge.conflist
iptables -t nat -A PREROUTING -p tcp --dport 443 -j DNAT --to-destination 10.22.0.77:443
iptables -A FORWARD -j ACCEPT; iptables -A FORWARD -i other0 -j ACCEPT
mkdir -p /var/lib/cni/networks/my_bridge; printf '4000000\r\neth0' > /var/lib/cni/networks/my_bridge/10.22.0.78`)
	before := h.dump()
	checks := h.checks()
	h.finds(checks, doctor.Warn, "old sysctl file", "/etc/sysctl.d/99-apptainer-universal.conf")
	h.finds(checks, doctor.Warn, "old udev rule", "/etc/udev/rules.d/99-veth-offload.rules")
	h.finds(checks, doctor.Warn, "old network file", "/etc/apptainer/network/20-bridge.conflist", "my_bridge")
	h.finds(checks, doctor.Warn, "rules to nobody", "--dport 443", "10.22.0.77:443")
	h.finds(checks, doctor.Warn, "rule that forwards all", "-A FORWARD -j ACCEPT")
	h.finds(checks, doctor.Warn, "leases", "/var/lib/cni/networks/my_bridge/10.22.0.78")
	h.same(before)
	checks = h.checks("--fix")
	h.finds(checks, doctor.Warn, "old sysctl file", "99-apptainer-universal.conf")
	if strings.Contains(trouble(checks), "10.22.0.78") {
		t.Errorf("after --fix, doctor found\n%s\nwant no lease of the dead", trouble(checks))
	}
	h.same(before, `10\.22\.0\.78`)
}

// A host that is broken in many ways is as broken after doctor as before it.
func TestDoctorChangesNothing(t *testing.T) {
	h := doctorHost(t)
	h.sh("iptables -F BOXRUN-FWD; iptables -t nat -F BOXRUN-DN-web; sysctl -qw net.ipv4.ip_forward=0; ethtool -K sbr0 gso on || true")
	before := h.dump()
	if checks := h.checks("web"); !doctor.Failed(checks) {
		t.Error("doctor found nothing wrong")
	}
	h.same(before)
	h.run("boxrun", "doctor", "--fix")
	if got := trouble(h.checks("web")); got != "" {
		t.Errorf("after --fix, doctor found\n%s\nwant nothing", got)
	}
}

// ailment is something wrong with a host that keeps boxes, or some of them, from working, and the check that names it.
type ailment struct {
	script string
	undo   string // "": --fix does
	status doctor.Verdict
	check  string
	words  []string
}

func ailments() []ailment {
	return []ailment{
		{script: "sysctl -qw net.ipv4.conf.all.rp_filter=1", status: doctor.Fail, check: "rp_filter", words: []string{"rp_filter"}},
		{script: "ip link set sbr0 down", status: doctor.Fail, check: "bridge", words: []string{"sbr0 is down"}},
		{script: "ip route add 10.22.128.0/17 via 192.0.2.2", undo: "ip route del 10.22.128.0/17",
			status: doctor.Fail, check: "subnet", words: []string{"10.22.0.0/16", "10.22.128.0/17"}},
		{script: "iptables-legacy -A INPUT -s 198.51.100.0/24 -j ACCEPT", undo: "iptables-legacy -F INPUT",
			status: doctor.Warn, check: "rules in the other backend", words: []string{"legacy"}},
		{script: "mkdir -p /var/lib/boxrun; mount -t tmpfs -o nr_inodes=1 tmpfs /var/lib/boxrun", undo: "umount /var/lib/boxrun",
			status: doctor.Fail, check: "disk space", words: []string{"no inodes left below /var/lib/boxrun"}},
		{script: "echo '{' > /run/boxrun/cni/aaa.conflist", undo: "rm /run/boxrun/cni/aaa.conflist",
			status: doctor.Fail, check: "network files", words: []string{"aaa.conflist"}},
		{script: "mount --bind /sys/fs/cgroup /sys/fs/cgroup; mount -o remount,bind,ro /sys/fs/cgroup", undo: "umount /sys/fs/cgroup",
			status: doctor.Fail, check: "cgroup", words: []string{"read-only"}},
		{script: "mv /dev/loop-control /dev/loop-control.away", undo: "mv /dev/loop-control.away /dev/loop-control",
			status: doctor.Warn, check: "kernel features", words: []string{"loop devices"}},
		{script: "mv /usr/lib/cni/host-local /root", undo: "mv /root/host-local /usr/lib/cni",
			status: doctor.Fail, check: "cni plugins", words: []string{"no host-local in /usr/lib/cni"}},
		{script: "mv /root/.apptainer/instances/app/host/root/web/web.json /root", undo: "mv /root/web.json /root/.apptainer/instances/app/host/root/web",
			status: doctor.Fail, check: "apptainer's instances", words: []string{"lost their records: web"}},
	}
}

// What is wrong with a host is told all at once, each by its own check; where boxrun may not mend it, it is not mended.
func TestDoctorNamesWhatIsWrongWithAHost(t *testing.T) {
	h := doctorHost(t)
	for _, a := range ailments() {
		h.sh(a.script)
	}
	checks := h.checks()
	for _, a := range ailments() {
		h.finds(checks, a.status, a.check, a.words...)
	}
	for _, a := range ailments() {
		h.sh(a.undo)
	}
	h.run("boxrun", "doctor", "--fix")
	if got := trouble(h.checks("web")); got != "" {
		t.Errorf("after all was mended, doctor found\n%s\nwant nothing", got)
	}
}

// Apptainer's instances that are not boxrun's are named, and left alone; and so are records of the dead, and an Apptainer
// that is too old or not there.
func TestDoctorLooksAtApptainer(t *testing.T) {
	h := doctorHost(t)
	h.sh("apptainer instance start --boot --writable-tmpfs --bind /sys/fs/cgroup --net --network none /srv/web raw")
	h.finds(h.checks("--fix"), doctor.Warn, "apptainer's instances", "boxrun did not start: raw")
	h.must("apptainer", "instance", "stop", "raw")
	h.sh(`mkdir -p /root/.apptainer/instances/app/host/root/dead; echo '{"pid":4000001' > /root/.apptainer/instances/app/host/root/dead/dead.json`)
	h.finds(h.checks(), doctor.Warn, "apptainer's instances", "dead instances: dead")
	h.sh("rm -r /root/.apptainer/instances/app/host/root/dead")

	h.sh("mv /usr/bin/apptainer /usr/bin/apptainer.away; printf '#!/bin/sh\n[ $1 = buildcfg ] && echo PACKAGE_VERSION=1.2.5 && exit\n" +
		"exec /usr/bin/apptainer.away \"$@\"\n' > /usr/bin/apptainer; chmod +x /usr/bin/apptainer")
	h.finds(h.checks(), doctor.Fail, "apptainer", "1.2.5")
	h.sh("rm /usr/bin/apptainer")
	h.finds(h.checks(), doctor.Fail, "apptainer", "apptainer")
	h.sh("mv /usr/bin/apptainer.away /usr/bin/apptainer")
	if got := trouble(h.checks("web")); got != "" {
		t.Errorf("with all as it was, doctor found\n%s\nwant nothing", got)
	}
}

// A box that died is taken away by --fix, and so are rules and leases that no box has.
func TestDoctorClearsTheDead(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.must("boxrun", "up", "web")
	h.sh("kill -9 $(boxrun ps --json | jq '.[0].pid'); sleep 1; iptables -t nat -N BOXRUN-DN-gone; " +
		"iptables -t nat -A BOXRUN-DN-gone -p tcp --dport 99 -j DNAT --to-destination 10.22.0.50")
	checks := h.checks()
	h.finds(checks, doctor.Fail, "boxes", "crashed: web")
	h.finds(checks, doctor.Fail, "rules", "gone")
	if checks := h.checks("--fix"); doctor.Failed(checks) {
		t.Errorf("after --fix, doctor found\n%s", trouble(checks))
	}
	h.same(before, stays()...)
}

// What a doctor that was killed left on the host is swept by the next.
func TestDoctorKilled(t *testing.T) {
	h := doctorHost(t)
	before := h.dump()
	h.run("bash", "-c", "boxrun doctor web & sleep 0.3; kill -9 $!; wait")
	h.sh("ip link add boxrun-d4000000 type veth peer name boxrun-e; ip link set boxrun-d4000000 alias boxrun:doctor")
	h.must("boxrun", "doctor", "--fix")
	h.same(before)
}

// Name servers that refuse cost no waiting, however often they are asked: a run asks twice, once from the box and once
// from the host.
func TestDoctorOfSilentNameServers(t *testing.T) {
	h := newHost(t)
	h.six()
	h.must("boxrun", "up", "web")
	unheard := func() int {
		n, err := strconv.Atoi(strings.Fields(h.client("sh", "-c", "grep ^Udp: /proc/net/snmp | tail -1"))[2])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const runs = 10
	var took []time.Duration
	before := unheard()
	for range runs {
		began := time.Now()
		h.finds(h.checks("web"), doctor.Warn, "out names", "no answer from 192.0.2.2 to the box, nor to the host")
		took = append(took, time.Since(began))
	}
	if got := unheard() - before; got != 2*runs {
		t.Errorf("%d runs asked %d times, want %d", runs, got, 2*runs)
	}
	if got := h.client("sh", "-c", "grep ^Icmp: /proc/net/snmp"); strings.Fields(strings.Split(got, "\n")[1])[18] == "0" {
		t.Errorf("every question was refused, so nothing was tried:\n%s", got)
	}
	t.Logf("doctor took %v", took)
	if slices.Min(took) > 1200*time.Millisecond { // a wait would be in each of them, and a busy machine slows some
		t.Errorf("doctor took %v, want no wait for the 1.2 s of a silent server", took)
	}
}

func TestDoctorSelfTest(t *testing.T) {
	h := newHost(t)
	h.answerNames()
	before := h.dump()
	checks := h.checks("--self-test")
	if got := trouble(checks); got != "" {
		t.Errorf("doctor --self-test found\n%s\nwant nothing", got)
	}
	if !slices.ContainsFunc(checks, func(c doctor.Check) bool {
		return strings.HasSuffix(c.Name, "/tcp connection") && c.Status == doctor.Pass
	}) {
		t.Error("doctor --self-test made no connection to its box")
	}
	h.same(before, stays()...)
	h.sh("mv /usr/lib/cni/bridge /usr/lib/cni/bridge.away")
	checks = h.checks("--self-test")
	h.finds(checks, doctor.Fail, "cni plugins", "bridge")
	h.finds(checks, doctor.Fail, "up", "did not start")
}

// Of a profile that is not up doctor tells what up would refuse.
func TestDoctorOfAProfile(t *testing.T) {
	h := newHost(t)
	h.answerNames()
	h.profile("taken", "image = \"/srv/web\"\n[network]\nports = [\"6000:80\"]\n")
	h.finds(h.checks("taken"), doctor.Warn, "profile", "not up")
	h.serve("probe", "serve", "host", "tcp/:6000")
	h.finds(h.checks("taken"), doctor.Fail, "profile", "6000", "probe")
}

// A host whose resolv.conf names a stub with nothing known behind it, and a box that therefore asks nobody.
func TestDoctorNamesAStub(t *testing.T) {
	h := newHost(t)
	h.sh("echo nameserver 127.0.0.53 > /etc/resolv.conf")
	h.must("boxrun", "up", "web")
	checks := h.checks("web")
	h.finds(checks, doctor.Warn, "resolver", "stub", "unknown")
	h.finds(checks, doctor.Fail, "out names")
}

// diagnosed wants doctor to find nothing wrong with a box beside a firewall, to tell of that, and to disturb nothing.
func (h host) diagnosed(f firewall) {
	h.t.Helper()
	before := h.dump()
	checks := h.checks("web")
	if doctor.Failed(checks) {
		h.t.Errorf("doctor found\n%s\nwant no failure", trouble(checks))
	}
	for check, words := range f.doctor {
		h.finds(checks, doctor.Pass, check, words)
	}
	h.same(before)
	h.page()
}

// firewalld's own setting is named, and so is what its zones reject.
func TestDoctorNamesFirewalld(t *testing.T) {
	h := bootHost(t, testhost.NewWithNeighbours)
	h.answerNames()
	h.must("boxrun", "up", "web")
	h.sh("systemctl start firewalld")
	h.finds(h.checks("web"), doctor.Fail, "firewalld zone", "sbr0 is in no zone of firewalld")
	if checks := h.checks("web", "--fix"); doctor.Failed(checks) {
		t.Errorf("after --fix, doctor found\n%s", trouble(checks))
	}
	h.page()
	h.sh("sed -i s/^StrictForwardPorts=.*/StrictForwardPorts=yes/ /etc/firewalld/firewalld.conf; systemctl restart firewalld")
	h.finds(h.checks("web"), doctor.Fail, "firewalld", "StrictForwardPorts=yes")
}
