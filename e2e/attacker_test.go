package e2e

import (
	"strings"
	"testing"
)

// victim is a box of the built-in image, whose root these tests play.
const victim = "image = \"builtin:hello\"\n[network]\nports = [\"8081:80\"]\n[systemd]\nstop_timeout = \"5s\"\n"

// TestAttackerCases are faults that were found, each with its kind, on a single host.
func TestAttackerCases(t *testing.T) {
	h := newHost(t)
	h.profile("evil", victim)
	h.profile("other", strings.Replace(victim, "8081", "8082", 1))
	h.must("boxrun", "up", "evil", "other", "web")
	for _, c := range []struct {
		name string
		test func(host)
	}{
		{"addresses", host.takesAddresses},
		{"files", host.keepsItsFiles},
		{"executable", host.keepsItsExecutable},
		{"programs", host.runsNoProgramsOfABox},
		{"routers", host.hasNoRouterBesidesTheHost},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(h.in(t)) })
	}
}

// takesAddresses has root of a box take addresses that are not the box's to take.
func (h host) takesAddresses() {
	h.sh("ip link add lan type dummy 2> /dev/null || ip link add lan type bridge; ip addr add 10.55.0.1/24 dev lan; ip link set lan up")
	theirs := strings.TrimSpace(h.sh("jq -r .state.addr /run/boxrun/boxes/other.json"))
	rules := h.sh("iptables-save | grep BOXRUN")
	for name, addr := range map[string]string{
		"a host of an inner network": "10.55.0.7/24",
		"the gateway":                "10.22.0.1/16",
		"an address of the host":     "192.0.2.1/24",
		"the broadcast address":      "10.22.255.255/16",
		"the network itself":         "10.22.0.0/16",
		"another box":                theirs + "/16",
	} {
		h.t.Run(name, func(t *testing.T) {
			h := h.in(t)
			h.must("boxrun", "exec", "evil", "--", "sh", "-c", "ip addr flush dev eth0; ip addr add "+addr+" dev eth0")
			for _, verb := range [][]string{{"repair"}, {"up", "evil"}} {
				h.fails(1, []string{"restart evil"}, append([]string{"boxrun"}, verb...)...)
			}
			said := h.must("boxrun", "status", "evil")
			if !containsAll(said, []string{"drifted", "restart evil"}) {
				h.t.Errorf("status says\n%s", said)
			}
			if now := h.sh("iptables-save | grep BOXRUN"); now != rules {
				h.t.Errorf("the rules are now\n%s\nthey were\n%s", now, rules)
			}
		})
	}
	h.must("boxrun", "exec", "evil", "--", "sh", "-c", "ip addr flush dev eth0; ip addr add 10.22.7.7/16 dev eth0")
	h.must("boxrun", "repair")
	h.must("boxrun", "restart", "evil")
	h.must("boxrun", "status", "evil")
}

// keepsItsFiles has a box reach, through its standard input and output, for the files of the host behind them.
func (h host) keepsItsFiles() {
	h.sh("mkdir -p /srv/closed && chmod 700 /srv/closed && echo secret > /srv/closed/name && echo kept > /srv/closed/log")
	for name, script := range map[string]string{
		"empties a log":           "boxrun exec -u nobody evil -- sh -c ': > /proc/self/fd/1' >> /srv/closed/log",
		"empties a log of errors": "boxrun exec -u nobody evil -- sh -c ': > /proc/self/fd/2' 2>> /srv/closed/log",
		"writes what it may read": "boxrun exec evil -- sh -c ': > /proc/self/fd/0' < /srv/closed/log",
		"lists a directory":       "boxrun exec evil -- ls /proc/self/fd/0/ < /srv/closed | grep -q name && exit 1",
		"changes a mode":          "boxrun exec evil -- chmod 600 /proc/self/fd/0 < /dev/null",
		"closes a device":         "boxrun exec evil -- chmod 600 /dev/null && boxrun exec web -- chown nobody /dev/null",
	} {
		if r := h.run("bash", "-c", "{ "+script+"; } 2> /dev/null; [ \"$(stat -c '%a %U' /dev/null)\" = '666 root' ] && grep -q kept /srv/closed/log"); r.Code != 0 {
			h.t.Errorf("a box that %s: %v", name, r)
			h.sh("chown root /dev/null; chmod 666 /dev/null; echo kept > /srv/closed/log")
		}
	}
	got := h.sh(`printf '1\n2\n3\n' > /srv/lines; while read n; do boxrun exec evil -- true; echo $n; done < /srv/lines
		boxrun exec evil -- sh -c 'echo a; echo b >&2; echo c' > /srv/both 2>&1; cat /srv/both
		boxrun exec evil -- md5sum < /usr/local/bin/boxrun | cmp - <(md5sum < /usr/local/bin/boxrun)
		echo piped | boxrun exec evil -- cat | cat; boxrun exec evil -- cat < /dev/null; boxrun exec evil -- sh -c 'sleep 0.1; cat' <<< here`)
	if want := "1\n2\n3\na\nb\nc\npiped\nhere\n"; got != want {
		h.t.Errorf("honest commands print %q, want %q", got, want)
	}
}

// keepsItsExecutable has root of a box catch boxrun at work in the box, and write to the executable afterwards.
func (h host) keepsItsExecutable() {
	h.sh(`sum=$(sha256sum < /usr/local/bin/boxrun)
		boxrun exec web -- sh -c 'head -c 300M /dev/zero > /var/big
			cat > /var/catch <<"END"
for i in $(seq 2000); do for p in /proc/[0-9]*; do
	case $(readlink $p/exe) in *boxrun*) exec 9< $p/exe; readlink /proc/$$/fd/9; while [ -e $p ]; do sleep 0.1; done
		printf x >> /proc/$$/fd/9 && echo written; exit;; esac
done; done
END'
		boxrun exec web -- bash /var/catch > /srv/caught 2>&1 & sleep 0.3
		boxrun cp web:/var/big /srv/big; wait; rm /srv/big; cat /srv/caught
		[ "$sum" = "$(sha256sum < /usr/local/bin/boxrun)" ]; grep -q memfd /srv/caught; ! grep -q written /srv/caught`)
}

// runsNoProgramsOfABox has root of a box leave a program that would run as root for any user of the host: below its
// overlay, below a bind of its own, in a copy.
func (h host) runsNoProgramsOfABox() {
	h.profile("kept", victim+"[storage]\nroot = \"overlay\"\nbinds = [\"/var/lib/boxrun/kept/data:/data\"]\n")
	h.sh("mkdir -p /var/lib/boxrun/kept/overlay/upper; chmod 755 /var/lib/boxrun/kept{,/overlay}; sed -i s/8081/8083/ /etc/boxrun/profiles/kept.toml")
	h.must("boxrun", "up", "kept")
	h.must("boxrun", "exec", "kept", "--", "sh", "-c", "cp /usr/bin/id /srv/id && cp /usr/bin/id /data/id && chmod 4755 /srv/id /data/id && chmod 755 /data")
	h.must("runuser", "-u", "nobody", "--", "test", "!", "-x", "/var/lib/boxrun/kept/data/id", "-a", "!", "-x", "/var/lib/boxrun/kept/overlay/upper/srv/id")
	h.must("boxrun", "exec", "-u", "nobody", "kept", "--", "/data/id")
	got := h.sh(`boxrun cp kept:/srv/id /srv/id1; boxrun cp --setuid kept:/srv/id /srv/id2; install -m 4700 -o nobody /dev/null /srv/id3
		boxrun cp kept:/srv/id /srv/id3; stat -c '%a %U' /srv/id[123]; rm /srv/id[123]`)
	if want := "755 root\n4755 root\n700 nobody\n"; got != want {
		h.t.Errorf("copies are\n%swant\n%s", got, want)
	}
	h.must("boxrun", "down", "kept")
	h.sh("rm -r /var/lib/boxrun/kept")
}

// advertise says to all on the network of a box, ten times in a second, that the box is the router and which addresses are
// there.
const advertise = `use Socket qw(:all); my $i = 1 * ` + "`cat /sys/class/net/eth0/ifindex`" + `; socket(my $s, AF_INET6, SOCK_RAW, 58) or die "$!";
	setsockopt($s, 41, $_, pack("i", $_ == 18 ? 255 : $i)) or die $! for 18, 17;
	my $ra = pack("CCnCCnNN", 134, 0, 0, 64, 0, 1800, 0, 0) . pack("CCCCNNN", 3, 4, 64, 0xC0, 86400, 14400, 0) . inet_pton(AF_INET6, "2001:db8::");
	for (1..10) { send($s, $ra, 0, pack_sockaddr_in6(0, inet_pton(AF_INET6, "ff02::1"), $i)) or die $!; select(undef, undef, undef, 0.1) }`

// hasNoRouterBesidesTheHost has root of a box play the router of its neighbours, confined ones and others.
func (h host) hasNoRouterBesidesTheHost() {
	h.profile("loose", strings.Replace(victim, "8081", "8084", 1)+"[security]\nlevel = \"host\"\n")
	h.must("boxrun", "up", "loose")
	h.must("boxrun", "exec", "web", "--", "perl", "-e", advertise)
	for _, name := range []string{"other", "loose", "web"} {
		got := h.sh("nsenter -n -t $(jq .state.init.pid /run/boxrun/boxes/" + name + ".json) ip -6 route; ip -6 route")
		if strings.Contains(got, "2001:db8:") || strings.Contains(got, "proto ra") {
			h.t.Errorf("a neighbour's word gave %s and the host these routes:\n%s", name, got)
		}
	}
	h.must("boxrun", "down", "loose")
}
