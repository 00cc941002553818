package e2e

import (
	"strings"
	"testing"
)

// site depends on web.
const site = "image = \"builtin:hello\"\ndepends_on = [\"web\"]\n[network]\nsubnet6 = \"fd42::/64\"\nports = [\"8080:80\"]\n[ready]\nhttp = [\"http://:80/\"]\n"

// What --dry-run prints does on another clean host what up does on the first one.
func TestDryRunTypedIntoAShellGivesTheSame(t *testing.T) {
	sideBySide(t)
	for _, name := range []string{"web", "site"} {
		t.Run(name, func(t *testing.T) {
			byBoxrun, byHand := newHost(t), newHost(t)
			byBoxrun.profile("site", site)
			byHand.profile("site", site)
			const same = `sed -i 's,^\[network\],&\nsubnet6 = "fd42::/64",' /etc/boxrun/profiles/web.toml`
			byBoxrun.sh(same) // "auto" is another network on each host
			byHand.sh(same)
			before := byHand.dump()
			script := byHand.must("boxrun", "up", "--dry-run", name)
			byHand.same(before, stays()...)
			if r := byHand.run("bash", "-ec", script); r.Code != 0 {
				t.Fatalf("typing\n%s: %v", script, r)
			}
			byBoxrun.must("boxrun", "up", name)

			want, got := byBoxrun.dump(), byHand.dump()
			for _, section := range []string{"iptables-nft", "ip6tables-nft", "iptables-legacy", "nft", "features of sbr0", "routes"} {
				if got, want := steady(got.Section(section)), steady(want.Section(section)); got != want {
					t.Errorf("%s: got\n%s\nwant\n%s", section, got, want)
				}
			}
			if got, want := steady(got.Section("sysctl")), steady(want.Section("sysctl")); got != want {
				t.Errorf("sysctls: got\n%s\nwant\n%s", got, want)
			}
			port := map[string]string{"web": "80", "site": "8080"}[name]
			if got := byHand.client("curl", "-sS", "-m", "5", "--retry", "10", "--retry-delay", "1", "--retry-all-errors",
				"http://192.0.2.1:"+port+"/"); got == "" {
				t.Error("the box answers with nothing")
			}
			inSystemd := "systemctl show -P ControlGroup boxrun-" + name + "; for box in /run/boxrun/boxes/*/; do cat $box/conf/hosts; done"
			if got, want := byHand.sh(inSystemd), byBoxrun.sh(inSystemd); got != want {
				t.Errorf("service and names: got\n%s\nwant\n%s", got, want)
			}
			if got := byHand.must("systemctl", "is-active", "boxrun-"+name); got != "active\n" {
				t.Errorf("the service of the box is %s", got)
			}
		})
	}
}

// steady gives the lines that two hosts have in common: a veth has a random name, and link-local addresses settle later.
func steady(section string) string {
	var kept strings.Builder
	for line := range strings.Lines(section) {
		if !strings.Contains(line, "veth") && !strings.Contains(line, "fe80:") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// down --dry-run prints how to take away what up has made: on a bridge, in the host's network, and of several boxes what they
// share with the last of them.
func TestDryRunOfDownTypedIntoAShell(t *testing.T) {
	h := newHost(t)
	h.profile("shared", "image = \"builtin:hello\"\n[network]\nmode = \"host\"\n")
	h.must("boxrun", "up", "web")
	h.must("boxrun", "down", "web")
	before := h.dump()
	for _, c := range []struct{ up, down string }{{"web", "web"}, {"shared", "shared"}, {"web hello", "hello web web"}, {"web hello", "--all"}} {
		t.Run(c.down, func(t *testing.T) {
			h := h.in(t)
			h.sh("boxrun up " + c.up)
			up := h.dump()
			script := h.sh("boxrun down --dry-run " + c.down)
			h.same(up)
			if r := h.run("bash", "-ec", script); r.Code != 0 {
				t.Fatalf("typing\n%s: %v", script, r)
			}
			h.same(before, stays()...)
			h.sh("test ! -e /run/boxrun")
		})
	}
	t.Run("cut short", func(t *testing.T) {
		h := h.in(t)
		h.cutsADownShort()
		h.same(before, stays()...)
	})
}

// cutsADownShort types a down up to some line, by which the services of the box do not stop it any more. Whatever verb is
// next has them do so again, or leaves nothing of that.
func (h host) cutsADownShort() {
	const hooked = "test -z \"$(find /run/systemd/system -name no-stop.conf)\"; systemctl show -P ExecStop boxrun-web.service | grep ' down web '"
	const gone = "test -z \"$(find /run/systemd/system /etc/systemd/system -name 'boxrun*')\""
	for _, c := range []struct{ until, verb, want string }{
		{"kill ", "up web", hooked},
		{"kill ", "down web", gone},
		{"rm /run/systemd/", "down web", gone},
		{"rm /run/systemd/", "host reset --force", gone},
	} {
		h.must("boxrun", "up", "web")
		script := h.must("boxrun", "down", "--dry-run", "web")
		beginning, _, _ := strings.Cut(script, c.until)
		h.sh(beginning + "test -z \"$(systemctl show -P ExecStop boxrun-web.service)\"")
		h.must(append([]string{"boxrun"}, strings.Fields(c.verb)...)...)
		h.sh(c.want)
	}
}

// up --dry-run prints how a box is started anew that has crashed, or whose profile has changed.
func TestDryRunOfANewStart(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct{ name, script, up, port string }{
		{"crashed", "kill -KILL $(jq .state.init.pid,.state.master.pid /run/boxrun/boxes/web.json); " +
			"timeout 10 sh -c 'until boxrun ps | grep crashed; do sleep 0.05; done'", "up --dry-run web", "80"},
		{"changed", "sed -i '/^ports/s/80/81:80/' /etc/boxrun/profiles/web.toml", "up --dry-run --replace web", "81"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.must("boxrun", "up", "web")
			addr := boxes(h)[0].Address
			h.sh(c.script)
			script := h.must(append([]string{"boxrun"}, strings.Fields(c.up)...)...)
			if r := h.run("bash", "-ec", script); r.Code != 0 {
				t.Fatalf("typing\n%s: %v", script, r)
			}
			h.client("curl", "-sS", "-m", "5", "--retry", "10", "--retry-delay", "1", "--retry-all-errors", "http://192.0.2.1:"+c.port+"/")
			if got := h.sh("jq -r .ip /root/.apptainer/instances/app/*/root/web/web.json"); got != addr+"\n" {
				t.Errorf("the box is at %s, want %s", got, addr)
			}
			h.must("systemctl", "stop", "boxrun-web.service")
			h.must("boxrun", "host", "reset")
		})
	}
}

// On a host where all is in place there is nothing to type.
func TestDryRunOfABoxThatIsUp(t *testing.T) {
	h := newHost(t)
	h.profile("new", "image = \"/srv/new.sif\"\n[build]\ndefinition = \"new.def\"\n")
	h.sh("printf 'Bootstrap: localimage\\nFrom: /srv/web\\n' > /etc/boxrun/profiles/new.def")
	if got := h.must("boxrun", "up", "--build", "--dry-run", "new"); !containsAll(got, []string{" build ", " instance start "}) {
		t.Errorf("got\n%s\nwant the build of an image that is not there yet, and its start", got)
	}
	h.must("boxrun", "up", "web")
	h.sh("iptables -t nat -F BOXRUN-DN-web")
	if got := h.must("boxrun", "up", "--dry-run", "web"); !strings.Contains(got, "BOXRUN-DN-web") || strings.Contains(got, "instance start") {
		t.Errorf("got\n%s\nwant the rules that are gone, and no start", got)
	}
}

// The commands of a dry run forget connections to the published ports of the host, and none to those of other machines.
func TestTypedCommandsSpareConnectionsOfOthers(t *testing.T) {
	h := newHost(t)
	for _, to := range []string{"192.0.2.1", "203.0.113.9"} {
		h.sh("conntrack -I -p tcp -s 192.0.2.2 -d " + to + " --sport 5555 --dport 80 --state ESTABLISHED -t 300")
	}
	h.sh("boxrun up web --dry-run | grep 'conntrack -D' > /root/forget; bash -e /root/forget")
	got := h.must("conntrack", "-L", "-p", "tcp", "--orig-port-dst", "80")
	if strings.Contains(got, "dst=192.0.2.1 ") || !strings.Contains(got, "dst=203.0.113.9 ") {
		t.Errorf("there are left\n%s\nwant the connection to the other machine", got)
	}
}
