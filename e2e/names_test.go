package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// sees gives the IPv4 address by which a box knows a name, "" where it knows none: as its programs do, by the C library, but
// without asking a name server, of which the test host has none.
func (h host) sees(box, name string) string {
	h.t.Helper()
	r := h.run("boxrun", "exec", box, "--", "getent", "-s", "files", "ahostsv4", name)
	address, _, _ := strings.Cut(r.Stdout, " ")
	return address
}

// addresses gives the boxes' addresses by their names.
func (h host) addresses() map[string]string {
	h.t.Helper()
	found := map[string]string{}
	for _, b := range boxes(h) {
		found[b.Name] = b.Address
	}
	return found
}

// knows wants each box on the bridge to know each other by name, and none of strangers.
func (h host) knows(names, strangers []string) {
	h.t.Helper()
	at := h.addresses()
	for _, box := range names {
		for _, name := range names {
			if got := h.sees(box, name); got != at[name] {
				h.t.Errorf("%s finds %s at %q, want %s", box, name, got, at[name])
			}
		}
		for _, name := range strangers {
			if got := h.sees(box, name); got != "" {
				h.t.Errorf("%s finds %s at %s, want it unknown", box, name, got)
			}
		}
	}
}

// Boxes of one bridge reach each other by the names of their profiles, those that were there before as well as the new
// ones, for as long as they are up.
func TestBoxesFindEachOtherByName(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.profile("db", "image = \"/srv/web\"\nhostname = \"store.example.org\"\n")
	h.profile("app", "image = \"/srv/web\"\n[storage]\nroot = \"read-only\"\n")
	h.profile("apart", "image = \"/srv/web\"\n[network]\nbridge = \"other0\"\nsubnet = \"10.44.0.0/24\"\n")
	h.profile("hostweb", "image = \"/srv/web\"\nnetwork.mode = \"host\"\nnetwork.ports = []\n")
	h.must("boxrun", "up", "db", "apart")
	h.must("boxrun", "up", "app", "hello")
	h.knows([]string{"db", "app", "hello"}, []string{"apart", "web"})
	if got, want := h.sees("app", "store.example.org"), h.addresses()["db"]; got != want {
		t.Errorf("app finds db by its host name at %q, want %s", got, want)
	}
	for box, want := range map[string]string{"app": "10.22.0.1", "hello": "10.22.0.1", "apart": "10.44.0.1", "hostweb": "127.0.0.1"} {
		if box == "hostweb" {
			h.must("boxrun", "up", box)
		}
		for _, name := range []string{"boxrun.host", "host.containers.internal"} {
			if got := h.sees(box, name); got != want {
				t.Errorf("%s finds %s at %q, want %s", box, name, got, want)
			}
		}
	}
	h.must("boxrun", "exec", "app", "--", "ping", "-c", "1", "-W", "2", "host.containers.internal")
	h.must("boxrun", "exec", "app", "--", "curl", "-sS", "-m", "5", "http://db/")
	h.must("boxrun", "exec", "db", "--", "curl", "-sS", "-m", "5", "http://hello/")
	h.knows([]string{"apart"}, []string{"db", "app"})

	h.must("boxrun", "down", "db")
	h.knows([]string{"app", "hello"}, []string{"db", "store.example.org"})
	h.must("boxrun", "up", "db")
	h.knows([]string{"db", "app", "hello"}, nil)
	h.must("boxrun", "down", "--all")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
}

// An image that asks systemd-resolved before the hosts file, has nss-myhostname, and whose resolv.conf is a link into /run
// finds the boxes on its bridge, as they come and go, and itself; what it does not know it asks the host's servers.
func TestNamesInAnImageWithResolved(t *testing.T) {
	h := newHost(t)
	if err := h.AddPostgres(t.Context(), func(step string) { t.Log(step) }); err != nil {
		t.Fatal(err)
	}
	h.answerNames()
	h.profile("db", "image = \"/srv/postgres\"\nready.units = [\"systemd-resolved.service\"]\n")
	h.must("boxrun", "up", "db", "web")
	at := h.addresses()
	find := func(name string) string {
		address, _, _ := strings.Cut(h.run("boxrun", "exec", "db", "--", "getent", "ahostsv4", name).Stdout, " ")
		return address
	}
	if got := h.must("boxrun", "exec", "db", "--", "readlink", "/etc/resolv.conf"); got != "../run/systemd/resolve/stub-resolv.conf\n" {
		t.Errorf("the image's /etc/resolv.conf is a link to %q, want the stub's", got)
	}
	for _, name := range []string{"web", "db"} {
		if got := find(name); got != at[name] {
			t.Errorf("db finds %s at %q, want %s", name, got, at[name])
		}
	}
	if got := h.must("boxrun", "exec", "db", "--", "resolvectl", "dns"); !strings.Contains(got, "Global: 192.0.2.2") {
		t.Errorf("systemd-resolved asks %s, want 192.0.2.2", got)
	}
	h.asks("db")
	h.must("boxrun", "down", "web")
	if said := eventually(20*time.Second, func() string { return find("web") }); said != "" { // it looks every two seconds
		t.Errorf("after down of web db finds it at %s, want it unknown", said)
	}
	h.must("boxrun", "up", "web")
	at = h.addresses()
	if said := eventually(20*time.Second, func() string { return strings.TrimPrefix(find("web"), at["web"]) }); said != "" || find("web") == "" {
		t.Errorf("after up of web db finds it at %q, want %s", said, at["web"])
	}
}

// Who has crashed is nobody's neighbour any more, once boxrun has looked; and what a killed boxrun left undone, or somebody
// spoilt, is seen and mended.
func TestNamesAreMended(t *testing.T) {
	h := newHost(t)
	h.profile("db", "image = \"/srv/web\"\n")
	h.must("boxrun", "up", "web", "db")
	files := "/run/boxrun/boxes/web/conf/hosts"
	h.sh("echo 127.0.0.1 localhost > " + files)
	if got := h.sees("web", "db"); got != "" {
		t.Fatalf("web finds db at %s, want its file spoilt", got)
	}
	if got := h.must("boxrun", "status", "web"); !containsAll(got, []string{"drifted", "hosts file of box web"}) {
		t.Errorf("status says\n%s\nwant that its hosts file drifted", got)
	}
	r := h.run("boxrun", "up", "db")
	if r.Code != 0 || !strings.Contains(r.Stderr, "mended: the hosts file of box web") {
		t.Errorf("up: %v", r)
	}
	h.knows([]string{"web", "db"}, nil)

	for _, b := range boxes(h) {
		if b.Name == "db" {
			h.sh(fmt.Sprintf("kill -9 %d", b.PID))
		}
	}
	if said := eventually(20*time.Second, func() string {
		if got := h.must("boxrun", "ps"); !strings.Contains(got, "crashed") {
			return got
		}
		return ""
	}); said != "" {
		t.Fatalf("ps says\n%s\nwant db crashed", said)
	}
	if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "hosts file of box web") {
		t.Errorf("status says\n%s\nwant that web's hosts file is not right any more", got)
	}
	h.must("boxrun", "up", "web")
	h.knows([]string{"web"}, []string{"db"})
	h.must("boxrun", "up", "db")
	h.knows([]string{"web", "db"}, nil)
}

// Several boxes that come and go at once know each other in the end.
func TestNamesOfBoxesThatComeAtOnce(t *testing.T) {
	h := newHost(t)
	h.profile("many", "image = \"builtin:hello\"\n")
	atOnce := func(commands string) {
		h.sh("for i in " + commands + "; do boxrun ${i/./ many@} & done; for job in $(jobs -p); do wait $job; done")
	}
	atOnce("up.1 up.2 up.3 up.4 up.5 up.6")
	h.knows([]string{"many-1", "many-2", "many-3", "many-4", "many-5", "many-6"}, nil)
	atOnce("down.2 down.4 up.7 down.6")
	h.knows([]string{"many-1", "many-3", "many-5", "many-7"}, []string{"many-2", "many-4", "many-6"})
}

// resolvConfs are the ways in which hosts keep their name servers; a box gets want.
func resolvConfs() []struct{ name, script, want string } {
	const (
		plain   = "printf 'nameserver 192.0.2.2\\nsearch site.example\\n' > /etc/resolv.conf"
		written = "# Written by boxrun.\n"
		same    = written + "nameserver 192.0.2.2\nsearch site.example\n"
	)
	return []struct{ name, script, want string }{
		{"a plain file", plain, same},
		{"options", plain + "; echo 'options ndots:3 timeout:1' >> /etc/resolv.conf", same + "options ndots:3 timeout:1\n"},
		{"the stub of systemd-resolved", `mkdir -p /run/systemd/resolve
			printf 'nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch site.example\n' > /run/systemd/resolve/stub-resolv.conf
			printf 'nameserver 192.0.2.2\nsearch site.example\n' > /run/systemd/resolve/resolv.conf
			ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf`, same + "options edns0\n"},
		{"NetworkManager with a cache of its own", `mkdir -p /run/NetworkManager
			printf 'nameserver 127.0.0.1\nsearch site.example\n' > /run/NetworkManager/resolv.conf
			printf 'nameserver 192.0.2.2\nsearch site.example\n' > /run/NetworkManager/no-stub-resolv.conf
			ln -sf /run/NetworkManager/resolv.conf /etc/resolv.conf`, same},
		{"NetworkManager", `mkdir -p /run/NetworkManager
			printf 'nameserver 192.0.2.2\nnameserver 2001:db8::53\nsearch site.example\n' > /run/NetworkManager/resolv.conf
			ln -sf /run/NetworkManager/resolv.conf /etc/resolv.conf`,
			written + "nameserver 192.0.2.2\nnameserver 2001:db8::53\nsearch site.example\n"},
		{"a cache that nobody knows", "printf 'nameserver 127.0.0.1\\n' > /etc/resolv.conf", written + "# No name server is known.\n"},
		{"no file", "rm -f /etc/resolv.conf", written + "# No name server is known.\n"},
	}
}

// A box asks the servers the host's own answers come from, in its searched domains, and never others.
func TestBoxesAskTheHostsNameServers(t *testing.T) {
	h := newHost(t)
	for _, test := range resolvConfs() {
		t.Run(test.name, func(t *testing.T) {
			h := h.in(t)
			h.sh("rm -rf /etc/resolv.conf /run/systemd/resolve /run/NetworkManager\n" + test.script)
			r := h.run("boxrun", "up", "web")
			if unknown := strings.Contains(test.want, "No name server"); r.Code != 0 || strings.Contains(r.Stderr, "network.dns") != unknown {
				t.Errorf("up: %v, want a word on network.dns: %v", r, unknown)
			}
			if got := h.must("boxrun", "exec", "web", "--", "cat", "/etc/resolv.conf"); got != test.want {
				t.Errorf("the box has\n%s\nwant\n%s", got, test.want)
			}
			h.must("boxrun", "exec", "web", "--", "grep", "-q", "^FallbackDNS=$", "/run/systemd/resolved.conf.d/90-boxrun.conf")
			if strings.Contains(test.want, "192.0.2.2") {
				h.asks("web")
			}
			h.must("boxrun", "down", "web")
		})
	}
}

// A host's name servers change while boxes run, as with a new lease or a VPN. status and diff name the boxes that ask the
// old ones; repair and up give each box the new ones, and nobody is started anew but systemd-resolved in a box.
func TestNameServersThatChange(t *testing.T) {
	h := newHost(t)
	if err := h.AddPostgres(t.Context(), func(step string) { t.Log(step) }); err != nil {
		t.Fatal(err)
	}
	h.sh("printf 'nameserver 192.0.2.99\n' > /etc/resolv.conf")
	h.profile("db", "image = \"/srv/postgres\"\nready.units = [\"systemd-resolved.service\"]\n")
	h.profile("hostweb", hostProfile("/srv/web"))
	h.profile("fixed", "image = \"/srv/web\"\nnetwork.dns = [\"192.0.2.98\"]\n")
	h.sh("cp -a /srv/web /srv/linked && ln -sf ../run/systemd/resolve/stub-resolv.conf /srv/linked/etc/resolv.conf") // with no systemd-resolved
	h.profile("linked", "image = \"/srv/linked\"\n")
	all := []string{"web", "db", "hostweb", "fixed", "linked"}
	h.must(append([]string{"boxrun", "up"}, all...)...)
	before := boxes(h)
	h.sh("printf 'nameserver 192.0.2.2\nsearch site.example\n' > /etc/resolv.conf.new; mv /etc/resolv.conf.new /etc/resolv.conf")
	drifted := func(want bool) {
		t.Helper()
		for _, name := range all {
			line, changes := "the name servers of box "+name, want && name != "fixed"
			for _, verb := range []string{"status", "diff"} {
				if got := h.must("boxrun", verb, name); strings.Contains(got, line) != changes {
					t.Errorf("%s %s says\n%s\nwant a word on its name servers: %v", verb, name, got, changes)
				}
			}
		}
	}
	drifted(true)
	if r := h.run("boxrun", "doctor", "web"); r.Code != 1 || !strings.Contains(r.Stdout, "the name servers of box web") {
		t.Errorf("doctor: %v, want it to name the servers of web", r)
	}
	h.sh(h.must("boxrun", "up", "linked", "--dry-run")) // what it prints does what it does
	if got := h.must("boxrun", "status", "linked"); strings.Contains(got, "drifted") {
		t.Errorf("after the commands of the dry run status says\n%s", got)
	}
	if r := h.run("boxrun", "up", "web"); r.Code != 0 || !strings.Contains(r.Stderr, "mended: the name servers of box web") {
		t.Errorf("up: %v", r)
	}
	h.asks("web")
	if r := h.run("boxrun", "repair"); r.Code != 0 || !containsAll(r.Stderr, []string{"servers of box db", "servers of box hostweb"}) {
		t.Errorf("repair: %v", r)
	}
	drifted(false)
	if said := eventually(20*time.Second, func() string {
		got := h.must("boxrun", "exec", "db", "--", "resolvectl", "dns")
		if strings.Contains(got, "Global: 192.0.2.2") {
			return ""
		}
		return got
	}); said != "" {
		t.Errorf("systemd-resolved in db asks %s, want 192.0.2.2", said)
	}
	h.asks("db")
	h.asks("linked")
	if got := h.must("boxrun", "exec", "hostweb", "--", "cat", "/etc/resolv.conf"); got != "nameserver 192.0.2.2\nsearch site.example\n" {
		t.Errorf("hostweb has\n%s\nwant what its host has", got)
	}
	for i, now := range boxes(h) {
		if now.PID != before[i].PID {
			t.Errorf("%s was started anew", now.Name)
		}
	}
}

// asks wants a box that looks for portal.site.example to send its question to the client, where the name server is said to be.
func (h host) asks(box string) {
	h.t.Helper()
	h.sh("conntrack -D -p udp --dport 53 2> /dev/null || true")
	h.run("boxrun", "exec", box, "--", "timeout", "1", "getent", "hosts", "portal.site.example")
	want := "src=" + h.addresses()[box] + " dst=192.0.2.2"
	if got := h.must("conntrack", "-L", "-p", "udp", "--dport", "53"); !strings.Contains(got, want) {
		h.t.Errorf("the box's questions go\n%s\nwant %s", got, want)
	}
}

// In the host's network a box asks what the host asks, a stub on 127.0.0.53 included; without a network, nobody.
func TestNameServersOfTheOtherModes(t *testing.T) {
	h := newHost(t)
	const stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch site.example\n"
	h.sh("printf '" + strings.ReplaceAll(stub, "\n", "\\n") + "' > /etc/resolv.conf")
	h.profile("hostweb", hostProfile("/srv/web"))
	h.profile("lonely", "image = \"/srv/web\"\nnetwork.mode = \"none\"\n")
	h.must("boxrun", "up", "hostweb", "lonely")
	for name, want := range map[string]string{"hostweb": stub, "lonely": "# Written by boxrun.\n# No name server is known.\n"} {
		if got := h.must("boxrun", "exec", name, "--", "cat", "/etc/resolv.conf"); got != want {
			t.Errorf("%s has\n%s\nwant\n%s", name, got, want)
		}
	}
}

// Root in a box, with all that it can do to its own mounts, does not write the host's resolv.conf, nor what that is a link
// to. Apptainer 1.5 binds the host's own into a box unless it is told otherwise.
func TestNoBoxWritesTheHostsResolvConf(t *testing.T) {
	h := newHost(t)
	h.profile("hostweb", hostProfile("/srv/web"))
	h.profile("lonely", "image = \"/srv/web\"\nnetwork.mode = \"none\"\n")
	const try = `echo spoilt >> /etc/resolv.conf
echo spoilt > /run/boxrun-resolv.conf
while umount /etc/resolv.conf; do echo spoilt >> /etc/resolv.conf; done
umount /run/boxrun-resolv.conf && echo spoilt > /run/boxrun-resolv.conf
mount -o remount,rw,bind /etc/boxrun/box; echo spoilt > /etc/boxrun/box/resolv.conf
echo spoilt > /run/systemd/resolve/stub-resolv.conf; true`
	for _, test := range resolvConfs() {
		t.Run(test.name, func(t *testing.T) {
			h := h.in(t)
			h.sh("rm -rf /etc/resolv.conf /run/systemd/resolve /run/NetworkManager\n" + test.script)
			const files = "find /etc/resolv.conf /run/systemd/resolve /run/NetworkManager /run/boxrun/boxes/*/conf -type f -path '*resolv*' 2> /dev/null | xargs -r grep -H ."
			for _, name := range []string{"web", "hostweb", "lonely"} {
				h.must("boxrun", "up", name)
				before := h.sh(files + "; cat /etc/resolv.conf || true")
				if r := h.run("boxrun", "exec", name, "--", "sh", "-c", "echo spoilt >> /etc/resolv.conf"); r.Code == 0 {
					t.Errorf("%s: its resolv.conf is not read-only", name)
				}
				h.must("boxrun", "exec", name, "--", "sh", "-c", try)
				if got := h.sh(files + "; cat /etc/resolv.conf || true"); got != before {
					t.Errorf("%s: got\n%s\nwant\n%s", name, got, before)
				}
				h.must("boxrun", "down", name)
			}
		})
	}
}

// A box with IPv4 alone on a host whose name servers are of IPv6 asks none of them; up, status and doctor say which servers
// the host has and what to do. A box with IPv6 beside that one asks the servers, as do boxes that the host has not yet; and a
// host without IPv6 says the same of servers that the profile names.
func TestNameServersOfAnotherFamily(t *testing.T) {
	h := newHost(t)
	h.sh("printf 'nameserver 2001:db8::53\nnameserver fe80::1%%eth0\n' > /etc/resolv.conf")
	h.profile("four", "image = \"/srv/web\"\n[network]\nbridge = \"four0\"\nsubnet = \"10.44.0.0/24\"\nsubnet6 = \"\"\n")
	said := func(when string, r testhost.Result, want bool, words ...string) {
		t.Helper()
		if containsAll(r.Stdout+r.Stderr, words) != want {
			t.Errorf("%s: %v\nwant %q said: %v", when, r, words, want)
		}
	}
	lack := []string{"the host's name servers are of IPv6, 2001:db8::53, and the box has IPv4 alone"}
	said("doctor without boxes", h.run("boxrun", "doctor", "-v"), true, "2001:db8::53 from /etc/resolv.conf")
	said("up four", h.run("boxrun", "up", "four"), true, append(lack, "network.dns")...)
	said("status four", h.run("boxrun", "status", "four"), true, lack...)
	said("doctor four", h.run("boxrun", "doctor", "four"), true, append(lack, "boxes with IPv4 alone")...)
	said("up web", h.run("boxrun", "up", "web"), false, "name servers")
	said("status web", h.run("boxrun", "status", "web"), false, "name servers")
	if got := h.must("boxrun", "exec", "web", "--", "cat", "/etc/resolv.conf"); got != "# Written by boxrun.\nnameserver 2001:db8::53\n" {
		t.Errorf("web has\n%s\nwant the host's server", got)
	}
	h.must("boxrun", "down", "--all")

	h.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1; echo nameserver 192.0.2.2 > /etc/resolv.conf")
	h.profile("named", "image = \"/srv/web\"\nnetwork.dns = [\"2001:db8::53\"]\n")
	lack = []string{"the servers of network.dns are of IPv6, and the box has IPv4 alone on this host"}
	said("up named", h.run("boxrun", "up", "named"), true, lack...)
	said("status named", h.run("boxrun", "status", "named"), true, lack...)
}
