package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/network"
	"boxrun/launcher/passage"
	"boxrun/launcher/testkit"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/sockets"
	"boxrun/netsetup/transfer"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// text returns a check as a person would write it down.
func (c Check) text() string {
	text := fmt.Sprintf("%s %s", c.Status, c.Found)
	if c.Fix != "" {
		text += "; fix: " + c.Fix
	}
	return text
}

func texts(checks []Check) string {
	var lines []string
	for _, c := range checks {
		lines = append(lines, c.Area+" "+c.Name+" "+c.text())
	}
	return strings.Join(lines, "\n")
}

// Looks run at the same time, their checks come in order, and a slow look does not delay the others.
func TestExamine(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	never := make(chan struct{})
	met := make(chan struct{})
	got := run(ctx, []look{
		one("host", "first", func(context.Context) Check { <-met; return pass("fine") }),
		{area: "host", name: "second", run: func(context.Context) []Check {
			close(met)
			return []Check{pass("a").named("one"), warn("", "do", "b").named("two")}
		}},
		one("web", "hangs", func(context.Context) Check { <-never; return pass("") }),
	})
	testkit.WantText(t, texts(got), "host first PASS fine\nhost one PASS a\nhost two WARN b; fix: do\nweb hangs FAIL took longer than 4s")
	if !Failed(got) || Failed(got[:3]) {
		t.Errorf("failed: got %v and %v, want true and false", Failed(got), Failed(got[:3]))
	}
}

func TestOlder(t *testing.T) {
	for _, test := range []struct {
		version, than string
		want          bool
	}{
		{"6.1.0-13-amd64", "4.18", false}, {"4.18.0-553.el8", "4.18", false}, {"4.9.0", "4.18", true}, {"5.4.0", "5.6", true},
		{"1.3.6", "1.4", true}, {"1.4.5-2", "1.4", false}, {"1.10.0", "1.4", false}, {"2", "1.4", false}, {"", "1.4", true},
	} {
		if got := older(test.version, test.than); got != test.want {
			t.Errorf("older(%q, %q): got %v, want %v", test.version, test.than, got, test.want)
		}
	}
}

func TestWithheld(t *testing.T) {
	for _, test := range []struct {
		set  string
		want int
	}{{"000001ffffffffff", 0}, {"000001fffeffffff", 1}, {"0000000000000000", 41}} {
		got, err := withheld("Name:\tx\nCapBnd:\t"+test.set+"\n", "40")
		if got != test.want || err != nil {
			t.Errorf("withheld of %s: got %d, %v, want %d", test.set, got, err, test.want)
		}
	}
	if _, err := withheld("Name:\tx\n", "40"); err == nil {
		t.Error("withheld of no set: got no error")
	}
}

func TestListening(t *testing.T) {
	box := netip.MustParseAddr("10.22.0.2")
	server := func(addr string, port uint16, by string) netsetup.Server {
		return netsetup.Server{Socket: sockets.Socket{Addr: netip.MustParseAddr(addr), Port: port, Proto: "tcp"}, By: by}
	}
	web := port.Port{Host: 8080, Container: 80, Count: 1, Proto: "tcp"}
	ftp := port.Port{Host: 9000, Container: 9000, Count: 11, Proto: "tcp"}
	for _, test := range []struct {
		name    string
		port    port.Port
		servers []netsetup.Server
		want    string
	}{
		{"nobody", web, nil, "FAIL nothing listens on 80/tcp in the box; fix: boxrun logs web"},
		{"on all addresses", web, []netsetup.Server{server("0.0.0.0", 80, "nginx (pid 7)")}, "PASS nginx (pid 7) on 80/tcp"},
		{"on the box's own", web, []netsetup.Server{server("10.22.0.2", 80, "nginx (pid 7)")}, "PASS nginx (pid 7) on 80/tcp"},
		{"on 127.0.0.1", web, []netsetup.Server{server("127.0.0.1", 80, "node (pid 9)")},
			`FAIL node (pid 9) listens on 127.0.0.1 alone, not on the box's address; fix: make it listen on 0.0.0.0: "boxrun shell web", and its configuration`},
		{"on both", web, []netsetup.Server{server("127.0.0.1", 80, "node (pid 9)"), server("10.22.0.2", 80, "nginx (pid 7)")}, "PASS nginx (pid 7) on 80/tcp"},
		{"some of a range", ftp, []netsetup.Server{server("0.0.0.0", 9000, "ftpd (pid 3)"), server("0.0.0.0", 9004, "ftpd (pid 3)")},
			"PASS 2 of 11 ports answered by ftpd (pid 3)"},
		{"none of a range", ftp, nil, "WARN nothing listens on any of 9000-9010/tcp in the box; fix: boxrun logs web"},
	} {
		t.Run(test.name, func(t *testing.T) {
			testkit.WantText(t, listening("web", test.port, box, test.servers).text(), test.want)
		})
	}
}

func TestTried(t *testing.T) {
	got := []string{
		tried("tcp", "from outside", nil).text(),
		tried("udp", "from outside", nil).text(),
		tried("tcp", "from outside", fmt.Errorf("dial: %w", unix.ECONNREFUSED)).text(),
		tried("tcp", "from outside", fmt.Errorf("dial: %w", context.DeadlineExceeded)).text(),
		tried("tcp", "from outside", unix.EHOSTUNREACH).text(),
	}
	testkit.WantText(t, strings.Join(got, "\n"), `PASS opened from outside
PASS a packet from outside was not refused
FAIL refused from outside; fix: see the checks of this port above
FAIL no answer from outside; fix: see the checks of this port above
FAIL from outside: no route to host; fix: see the checks of this port above`)
}

func TestDropped(t *testing.T) {
	for _, test := range []struct{ rule, want string }{
		{"iptables -t filter -P FORWARD DROP", network.RepairCommand},
		{"iptables -t filter -A FORWARD -o sbr0 -j DROP", network.RepairCommand},
		{"iptables-legacy -t filter -A FORWARD -o sbr0 -j DROP", "iptables-legacy -t filter -D FORWARD -o sbr0 -j DROP"},
		{"iptables -t raw -A PREROUTING -p tcp -j DROP", "iptables -t raw -D PREROUTING -p tcp -j DROP"},
		{"iptables -t filter -A BOXRUN-FW-web -m comment --comment boxrun:web -j DROP", network.RepairCommand},
	} {
		testkit.WantText(t, dropped(firewall.Outcome{Dropped: true, Rule: test.rule}, "sbr0").text(), "FAIL dropped by: "+test.rule+"; fix: "+test.want)
	}
	got := dropped(firewall.Outcome{Dropped: true, Rule: "nft chain inet site forward { policy drop; }"}, "sbr0").Fix
	if want := `insert rule inet site forward iifname "sbr0" accept`; !strings.Contains(got, want) {
		t.Errorf("got the fix %q, want in it: %s", got, want)
	}
}

// A person cannot write to a built-in profile, so the fix must not say so.
func TestFixOfNames(t *testing.T) {
	for file, want := range map[string]string{
		"/etc/boxrun/profiles/web.toml": "set network.dns in /etc/boxrun/profiles/web.toml, and boxrun restart web",
		"builtin:hello":                 "give the host name servers that answer, in /etc/resolv.conf",
	} {
		testkit.WantText(t, fixOfNames(&box.Box{Name: "web", Profile: profiles.Profile{File: file}}), want)
	}
}

func TestJudge(t *testing.T) {
	offload := topic{name: "offload", good: "off on the bridges"}
	const pushed = "filter/FORWARD has other rules before: -j BOXRUN-FWD"
	got := []string{
		offload.judge(nil, nil).text(),
		offload.judge([]string{pushed}, nil).text(),
		offload.judge([]string{pushed, "offload of sbr0 is on: tx-checksum-ip-generic"}, nil).text(),
		offload.judge(nil, []string{"rx-checksum", "tx-scatter-gather"}).text(),
	}
	testkit.WantText(t, strings.Join(got, "\n"), "PASS off on the bridges\nWARN "+pushed+"; fix: "+network.RepairCommand+"\n"+
		"FAIL "+pushed+"; offload of sbr0 is on: tx-checksum-ip-generic; fix: "+network.RepairCommand+"\n"+
		"WARN a driver does not let it be turned off: rx-checksum, tx-scatter-gather")
}

// seeded returns the facts of a host with files.
func seeded(t *testing.T, files map[string]string) *facts {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return &facts{
		store: &box.Store{Dir: filepath.Join(root, "run"), Home: root}, root: root,
		apptainer: func() (apptainer.Installation, error) {
			return apptainer.Installation{ConfFile: "/opt/etc/apptainer/apptainer.conf"}, nil
		},
		firewall: func() (firewall.State, error) { return firewall.State{}, nil },
	}
}

func TestSeedConflist(t *testing.T) {
	const mine = `{"name": "%s", "plugins": [{"type": "bridge", "bridge": "sbr0"}]}`
	for _, test := range []struct{ name, file, text, want string }{
		{"none", "etc/apptainer/network/00_bridge.conflist", fmt.Sprintf(mine, "bridge"), "PASS no network my_bridge"},
		{"as it was", "etc/apptainer/network/20-bridge.conflist", fmt.Sprintf(mine, "my_bridge"),
			`WARN /etc/apptainer/network/20-bridge.conflist, network "my_bridge"; fix: rm /etc/apptainer/network/20-bridge.conflist`},
		{"under another name, where this Apptainer looks", "opt/etc/apptainer/network/a.conflist", fmt.Sprintf(mine, "my_bridge"),
			`WARN /opt/etc/apptainer/network/a.conflist, network "my_bridge"; fix: rm /opt/etc/apptainer/network/a.conflist`},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := seeded(t, map[string]string{test.file: test.text})
			testkit.WantText(t, leftoverLooks{d}.seedConflist(t.Context()).text(), test.want)
		})
	}
	d := seeded(t, map[string]string{"etc/cni/net.d/10.conflist": "{"})
	c := leftoverLooks{d}.seedConflist(t.Context())
	if c.Status != Warn || !strings.Contains(c.Found, "10.conflist") {
		t.Errorf("of a file that is cut: got %s, want it named", c.text())
	}
}

func TestConflists(t *testing.T) {
	const good = `{"name": "boxrun-sbr0", "plugins": [{"type": "bridge", "bridge": "sbr0"}]}`
	d := seeded(t, map[string]string{"run/cni/boxrun-sbr0.conflist": good})
	if got := (networkLooks{d}).conflists(t.Context()); got.Status != Pass {
		t.Errorf("of a good one: got %s", got.text())
	}
	d = seeded(t, map[string]string{"run/cni/boxrun-sbr0.conflist": good, "run/cni/aaa.conflist": good[:20]})
	if got := (networkLooks{d}).conflists(t.Context()); got.Status != Fail || !strings.Contains(got.Found, "aaa.conflist") {
		t.Errorf("beside one that is cut: got %s, want it named", got.text())
	}
}

func TestConntrack(t *testing.T) {
	for _, test := range []struct{ count, want string }{
		{"", "PASS connections are not tracked yet"},
		{"700", "PASS 700 connections tracked, room for 1000"},
		{"800", "WARN 800 of 1000 connections; fix: sysctl -w net.netfilter.nf_conntrack_max=2000"},
		{"1000", "FAIL 1000 of 1000 connections; fix: sysctl -w net.netfilter.nf_conntrack_max=2000"},
	} {
		files := map[string]string{}
		if test.count != "" {
			files["proc/sys/net/netfilter/nf_conntrack_count"] = test.count + "\n"
			files["proc/sys/net/netfilter/nf_conntrack_max"] = "1000\n"
		}
		testkit.WantText(t, hostLooks{seeded(t, files)}.conntrack(t.Context()).text(), test.want)
	}
}

// On a machine in a cloud, clients may fail to reach a box although everything on the host is right.
func TestHintCloud(t *testing.T) {
	d := seeded(t, map[string]string{"sys/class/dmi/id/sys_vendor": "Amazon EC2\n"})
	b := &box.Box{Name: "web"}
	b.Profile.Network.Ports = []port.Port{
		{Host: 8080, Container: 80, Count: 1, Proto: "tcp"},
		{HostIP: netip.MustParseAddr("127.0.0.1"), Host: 5432, Container: 5432, Count: 1, Proto: "tcp"},
	}
	right := []Check{{Area: "web", Name: "state", Status: Pass, Found: "running"}}
	testkit.WantText(t, texts(d.hintCloud(right, []*box.Box{b})[1:]), "web cloud WARN on Amazon EC2, and no connection to 8080/tcp has arrived yet; "+
		"fix: open 8080/tcp in the security group of this machine")
	wrong := []Check{{Area: "web", Name: "8080/tcp dnat", Status: Fail}}
	if got := d.hintCloud(wrong, []*box.Box{b}); len(got) != 1 {
		t.Errorf("of a box that is not right: got %s", texts(got))
	}
	if got := seeded(t, nil).hintCloud(right, []*box.Box{b}); len(got) != 1 {
		t.Errorf("on no cloud: got %s", texts(got))
	}
}

func TestJoined(t *testing.T) {
	one, two, three := errors.New("one"), errors.New("two"), errors.New("three")
	got := fault.Split(errors.Join(one, errors.Join(two, three)))
	testkit.WantText(t, fmt.Sprint(got), "[one two three]")
	testkit.WantText(t, fmt.Sprint(fault.Split(one)), "[one]")
}

func TestMandatoryAccess(t *testing.T) {
	const selinux, apparmor = "sys/fs/selinux/enforce", "sys/module/apparmor/parameters/enabled"
	for _, test := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{selinux: "1", apparmor: "N\n"}, `PASS SELinux is enforcing: "ausearch -m avc -ts recent" shows what it denied a box`},
		{map[string]string{selinux: "0"}, "PASS SELinux is permissive"},
		{map[string]string{apparmor: "Y\n"}, "PASS AppArmor is on; root's boxes are not confined by it"},
		{map[string]string{apparmor: "N\n"}, "PASS neither"},
		{nil, "PASS neither"},
	} {
		testkit.WantText(t, hostLooks{seeded(t, test.files)}.mandatoryAccess(t.Context()).text(), test.want)
	}
}

// A connection that fails points to the other checks of its port where one of them found something.
func TestPointed(t *testing.T) {
	named := func(area, name string, c Check) Check {
		c.Area, c.Name = area, name
		return c
	}
	lost := fail("clients hang", seeAbove, "no answer")
	checks := pointed([]Check{
		named("web", "80/tcp dnat", pass("to 10.22.0.2:80")), named("web", "80/tcp connection", lost),
		named("web", "8080/tcp dnat", fail("shadowed", "", "by another")), named("web", "8080/tcp connection", lost),
		named("db", "80/tcp dnat", warn("perhaps", "", "another")), named("db", "80/tcp connection", lost),
	})
	got := []string{checks[1].Fix, checks[3].Fix, checks[5].Fix}
	if want := []string{"boxrun trace --probe web 80", seeAbove, seeAbove}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRemovalOfRules(t *testing.T) {
	for rule, want := range map[string]string{
		"nft rule inet site pre handle 5":                  "publish another host port, or remove that rule: nft delete rule inet site pre handle 5",
		"iptables-legacy -t nat -A PREROUTING -j REDIRECT": "publish another host port, or remove that rule: iptables-legacy -t nat -D PREROUTING -j REDIRECT",
		"iptables -t nat -A PREROUTING -j REDIRECT":        network.RepairCommand,
	} {
		if got := passage.RemovalHint(rule); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", rule, got, want)
		}
	}
}

func TestJudgeSpace(t *testing.T) {
	for _, c := range []struct {
		free        uint64
		full, small bool
		status      Verdict
		fix         string
	}{
		{2 << 30, false, false, Pass, ""},
		{512 << 20, false, true, Pass, ""},
		{512 << 20, false, false, Warn, "df -h /d"},
		{32 << 20, false, true, Fail, "df -h /d"},
		{2 << 30, true, false, Fail, "df -i /d"},
	} {
		if got := judgeSpace("/d", c.free, c.full, c.small); got.Status != c.status || got.Fix != c.fix {
			t.Errorf("%d bytes free, no inodes %v, little needed %v: got %v", c.free, c.full, c.small, got)
		}
	}
}

// However a connection runs out of time, its clients hang.
func TestTriedTellsOfTimeouts(t *testing.T) {
	for _, err := range []error{
		context.DeadlineExceeded, unix.ETIMEDOUT, os.ErrDeadlineExceeded,
		&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", unix.ETIMEDOUT)},
		&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded},
	} {
		if got := tried("tcp", "there", err); got.Status != Fail || got.Found != "no answer there" {
			t.Errorf("%v: got %v, %q", err, got.Status, got.Found)
		}
	}
	if got := tried("tcp", "there", unix.ENETUNREACH); got.Found != "there: network is unreachable" {
		t.Errorf("got %q", got.Found)
	}
}

// What a transfer tells of checksums, and what is to be set for it beside what is set.
func TestUnsummed(t *testing.T) {
	hung := fmt.Errorf("reading: %w", os.ErrDeadlineExceeded)
	for _, c := range []struct {
		result transfer.Result
		off    directions
		want   string // in the text or the fix; "" for nothing to be told
	}{
		{transfer.Result{Opened: true, Out: transfer.Tally{Unfinished: 9}, In: transfer.Tally{Unfinished: 9}}, directions{}, ""},
		{transfer.Result{Opened: true, Out: transfer.Tally{Whole: 9}, In: transfer.Tally{Whole: 9}}, directions{true, true}, ""},
		{transfer.Result{Opened: true, Err: hung}, directions{}, ""},
		{transfer.Result{Opened: true, Err: hung, Out: transfer.Tally{Unfinished: 9}}, directions{}, ""},
		{transfer.Result{Noted: true, Err: hung}, directions{}, `set network.offload = "off-out" in /w.toml`},
		{transfer.Result{Noted: true, Err: hung}, directions{in: true}, `set network.offload = "off-both" in /w.toml`},
		{transfer.Result{Out: transfer.Tally{Wrong: 2, Whole: 1}, Err: hung}, directions{}, `2 of 3 packets out of the box arrive with a wrong checksum`},
		{transfer.Result{In: transfer.Tally{Wrong: 2, Unfinished: 1}, Err: hung}, directions{}, `set network.offload = "off" in /w.toml`},
		{transfer.Result{In: transfer.Tally{Unfinished: 2, Whole: 1}, Err: hung}, directions{out: true}, `set network.offload = "off-both" in /w.toml`},
		{transfer.Result{Opened: true, Out: transfer.Tally{Unfinished: 2}}, directions{out: true}, "2 out of the box, 0 into the box"},
		{transfer.Result{Opened: true, In: transfer.Tally{Unfinished: 3}}, directions{in: true}, "0 out of the box, 3 into the box"},
	} {
		b := boxLooks{Box: &box.Box{Name: "w", Profile: profiles.Profile{File: "/w.toml"}}}
		got, is := b.unsummed(c.result, c.off)
		if is != (c.want != "") || !strings.Contains(got.Found+"; "+got.Fix, c.want) {
			t.Errorf("%+v with %+v: got %+v, want %q", c.result, c.off, got, c.want)
		}
	}
}
