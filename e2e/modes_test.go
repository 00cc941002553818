package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// hostProfile runs an image in the host's network.
func hostProfile(image string, more ...string) string {
	return "image = \"" + image + "\"\n[network]\nmode = \"host\"\n" + strings.Join(more, "\n") + "\n"
}

// The box is the host, as far as the network goes, and the host's network is not changed by that.
func TestABoxInTheHostsNetwork(t *testing.T) {
	h := newHost(t)
	h.profile("hostweb", hostProfile("/srv/web", `ports = ["80"]`, "[ready]", "tcp = [80]", `units = ["nginx.service"]`))
	before := h.dump()
	r := h.run("boxrun", "up", "hostweb")
	if r.Code != 0 || !strings.Contains(r.Stderr, "started in the host's network") || strings.Contains(r.Stderr, "changed") {
		t.Fatalf("up: %v, want it started and nothing changed", r)
	}
	h.page()
	up := h.dump()
	for _, section := range []string{"links", "addresses", "routes", "rules of routing", "iptables-nft", "ip6tables-nft", "nft", "sysctl"} {
		if got, want := up.Section(section), before.Section(section); got != want {
			t.Errorf("%s changed: got\n%s\nwant\n%s", section, got, want)
		}
	}
	if got := boxes(h)[0]; got.Address != "host" || strings.Join(got.Ports, " ") != "80/tcp" {
		t.Errorf("ps says %+v, want address host and port 80/tcp", got)
	}
	if got := h.must("boxrun", "status", "hostweb"); !containsAll(got, []string{"host", "in place", "the host's firewall decides"}) {
		t.Errorf("status says\n%s", got)
	}
	if got, want := h.must("boxrun", "exec", "hostweb", "--", "hostname"), "hostweb\n"; got != want {
		t.Errorf("the box's name is %q, want %q", got, want)
	}
	if r := h.run("boxrun", "up", "hostweb"); r.Code != 0 || !strings.Contains(r.Stderr, "nothing to change") {
		t.Errorf("up again: %v", r)
	}
	h.same(up)
	h.must("boxrun", "down", "hostweb")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
}

func TestDryRunOfABoxInTheHostsNetwork(t *testing.T) {
	h := newHost(t)
	h.profile("hostweb", hostProfile("/srv/web", `ports = ["80"]`))
	before := h.dump()
	script := h.must("boxrun", "up", "--dry-run", "hostweb")
	h.same(before, stays()...)
	if strings.Contains(script, "iptables -") || strings.Contains(script, "sysctl -") {
		t.Errorf("the host's network is set up for it:\n%s", script)
	}
	if r := h.run("bash", "-ec", script); r.Code != 0 {
		t.Fatalf("typing\n%s: %v", script, r)
	}
	if said := eventually(patience, func() string {
		return h.run("curl", "-sS", "-m", "5", "http://127.0.0.1/").Stderr
	}); said != "" {
		t.Errorf("the box does not answer: %s", said)
	}
	h.page()
}

// What of the host's ports is taken is refused by name, whoever has it: a process, a box behind the bridge, or one in the
// host's network.
func TestPortsInTheHostsNetworkAreOneAndTheSame(t *testing.T) {
	h := newHost(t)
	h.profile("hostweb", hostProfile("/srv/web", `ports = ["80"]`))
	h.profile("second", hostProfile("/srv/web", `ports = ["79-81"]`))
	h.profile("probing", hostProfile("/srv/web", `ports = ["6000"]`))
	h.serve("probe", "serve", "host", "tcp/:6000")
	h.must("boxrun", "up", "web")
	h.refuses(1, []string{"80/tcp", `box "web"`}, "boxrun", "up", "hostweb")
	h.refuses(1, []string{"6000/tcp", "probe"}, "boxrun", "up", "probing")
	h.must("boxrun", "down", "web")
	h.must("boxrun", "up", "hostweb")
	h.refuses(1, []string{"80/tcp", `box "hostweb"`}, "boxrun", "up", "second")
	r := h.run("boxrun", "up", "web")
	if r.Code != 1 || !strings.Contains(r.Stderr, `box "hostweb"`) {
		t.Errorf("a box behind the bridge: %v, want it refused, naming the one in the host's network", r)
	}

	// The box's own listeners are no obstacle to replacing it.
	h.profile("hostweb", hostProfile("/srv/web", `ports = ["80", "81"]`))
	h.must("boxrun", "up", "--replace", "hostweb")
	h.page()
}

// script makes a copy of the web image in which a service runs a script when it boots.
func (h host) script(image, script string) {
	h.t.Helper()
	h.sh("cp -a /srv/web " + image)
	const unit = "[Unit]\nBefore=nginx.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/bash -e /etc/script\n"
	for path, text := range map[string]string{"/etc/script": script + "\n", "/etc/systemd/system/script.service": unit} {
		if err := h.Write(h.t.Context(), image+path, 0o644, strings.NewReader(text)); err != nil {
			h.t.Fatal(err)
		}
	}
	h.sh("ln -s ../script.service " + image + "/etc/systemd/system/multi-user.target.wants/script.service")
}

// A box that changes the host's network is told of, with commands that take it back.
func TestWhatABoxChangesOfTheHostIsTold(t *testing.T) {
	h := newHost(t)
	h.script("/srv/rude", "ip addr add 192.0.2.77/24 dev eth0; ip link set eth0 mtu 1400; ip route add 198.51.100.0/24 via 192.0.2.2;"+
		" echo 1 > /proc/sys/net/ipv4/conf/eth0/proxy_arp; ip rule add pref 7 from 192.0.2.77 lookup main")
	h.profile("rude", hostProfile("/srv/rude", "[ready]", `units = ["script.service"]`))
	before := h.dump()
	r := h.run("boxrun", "up", "rude")
	var commands []string
	for line := range strings.Lines(r.Stderr) {
		if _, command, ok := strings.Cut(line, "to take it back: "); ok {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	want := []string{
		"ip rule del pref 7 from 192.0.2.77/32 to all lookup 254",
		"ip route del 198.51.100.0/24 via 192.0.2.2 dev eth0",
		"ip addr del 192.0.2.77/24 dev eth0",
		"ip link set eth0 mtu 1500",
		"sysctl -w 'net/ipv4/conf/eth0/proxy_arp=0'",
	}
	if r.Code != 0 || !slices.Equal(commands, want) {
		t.Errorf("up: %v\nwant these commands:\n%s", r, strings.Join(want, "\n"))
	}
	h.must("boxrun", "down", "rude")
	h.sh(strings.Join(commands, "\n"))
	h.same(before, stays()...)
}

// Somebody who listens on 127.0.0.1 alone is reached by nobody: such a box is not ready.
func TestReadyInTheHostsNetworkMeansReachable(t *testing.T) {
	h := newHost(t)
	h.script("/srv/shy", "sed -i -e 's/listen 80 /listen 127.0.0.1:80 /' -e '/listen .*]:80/d' /etc/nginx/sites-available/default")
	h.profile("shy", hostProfile("/srv/shy", "[ready]", "tcp = [80]", `http = ["http://:80/"]`, `timeout = "3s"`))
	h.fails(5, []string{"port 80 refuses connections", "http://192.0.2.1:80/ refuses connections"}, "boxrun", "up", "shy")
	if got := h.must("curl", "-sS", "-m", "5", "http://127.0.0.1/"); !strings.Contains(got, "nginx in a box") {
		t.Errorf("on 127.0.0.1 it answers %q, want the page: the box has to be up", got)
	}
}

// managers are the units that must not run in the host's network, whatever else is masked there.
const managers = `systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service systemd-resolved.service
NetworkManager.service NetworkManager-wait-online.service NetworkManager-dispatcher.service networking.service ifup@eth0.service
ifupdown-pre.service dhcpcd.service dhcpcd@eth0.service wicked.service wickedd.service wickedd-dhcp4.service connman.service
cloud-init.service cloud-init-local.service cloud-config.service cloud-final.service firewalld.service nftables.service
iptables.service ip6tables.service netfilter-persistent.service ufw.service`

// marking puts fake units of the names given into an image, enabled, each of which leaves a mark in /marks when it starts.
// Instances of a template get one, which is what marks.
const marking = `
units=%[1]s/etc/systemd/system
mkdir -p $units/multi-user.target.wants $units/sockets.target.wants $units/timers.target.wants
for unit in %[2]s; do
	file=${unit/@*./@.}
	rm -f $units/$unit $units/$file
	case $unit in
	*.service) printf '[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/touch /marks/%%%%n\n' > $units/$file
		ln -sf ../$file $units/multi-user.target.wants/$unit ;;
	*.socket) printf '[Socket]\nListenStream=/tmp/%%%%n\nExecStartPost=/bin/touch /marks/%%%%n\nService=nginx.service\n' > $units/$file
		ln -sf ../$file $units/sockets.target.wants/$unit ;;
	*.timer) printf '[Timer]\nOnActiveSec=0\nAccuracySec=1ms\nUnit=timed.service\n' > $units/$file
		printf '[Service]\nType=oneshot\nExecStart=/bin/touch /marks/'$unit'\n' > $units/timed.service
		ln -sf ../$file $units/timers.target.wants/$unit ;;
	esac
done
`

// Not one of the units that manage a network starts in a box that shares the host's, though the image has and enables all
// of them. The same image booted by Apptainer alone shows that each of them would.
func TestNetworkManagersDoNotRunInTheHostsNetwork(t *testing.T) {
	h := newHost(t)
	h.profile("fakes", hostProfile("/srv/fakes", "[ready]", `units = ["multi-user.target"]`,
		"[storage]", `binds = ["/srv/marks:/marks"]`))
	h.sh("mkdir -p /srv/marks; cp -a /srv/web /srv/fakes")
	h.must("boxrun", "up", "fakes")
	units := strings.Fields(strings.ReplaceAll(h.must("cat", "/run/boxrun/boxes/fakes/conf/masks"), "@.", "@eth0."))
	h.must("boxrun", "down", "fakes")
	for _, unit := range strings.Fields(managers) {
		if !slices.Contains(units, unit) {
			t.Errorf("%s is not masked", unit)
		}
	}
	units = slices.DeleteFunc(units, func(unit string) bool { // of these no fake can be made
		return strings.HasSuffix(unit, ".mount") || strings.HasSuffix(unit, ".automount") || strings.HasSuffix(unit, "audit.socket")
	})
	if err := h.Write(t.Context(), "/root/marking.sh", 0o755,
		strings.NewReader(fmt.Sprintf(marking, "/srv/fakes", strings.Join(units, " ")))); err != nil {
		t.Fatal(err)
	}
	h.must("bash", "-e", "/root/marking.sh")
	marks := func() string { return h.must("ls", "/srv/marks") }

	h.sh("container=apptainer apptainer instance start --boot --net --network none --no-home --writable-tmpfs" +
		" --bind /sys/fs/cgroup --bind /srv/marks:/marks /srv/fakes raw")
	slices.Sort(units)
	if said := eventually(patience/4, func() string {
		if got := strings.Fields(marks()); !slices.Equal(slices.Sorted(slices.Values(got)), units) {
			return strings.Join(missing(units, got), " ")
		}
		return ""
	}); said != "" {
		t.Fatalf("with Apptainer alone these did not start: %s", said)
	}
	h.sh("pid=$(apptainer instance list -j | jq '.instances[0].pid'); scope=/sys/fs/cgroup/system.slice/apptainer-$pid.scope;" +
		" kill -s RTMIN+3 $pid; timeout 60 bash -c 'while [ -e $0 ] || apptainer instance list -q | grep raw; do sleep 0.2; done' $scope;" +
		" rm /srv/marks/*")

	before := h.dump()
	r := h.run("boxrun", "up", "fakes")
	if r.Code != 0 || strings.Contains(r.Stderr, "changed") {
		t.Errorf("up: %v", r)
	}
	// Nor when they are asked for: by hand, by D-Bus, by a device.
	for _, unit := range units {
		if r := h.run("boxrun", "exec", "fakes", "--", "systemctl", "start", unit); r.Code == 0 {
			t.Errorf("%s could be started: %v", unit, r)
		}
	}
	if got := marks(); got != "" {
		t.Errorf("these started:\n%s", got)
	}
	h.must("boxrun", "down", "fakes")
	h.same(before, stays()...)
}

func missing(want, got []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(unit string) bool { return slices.Contains(got, unit) })
}

// A box has no terminal of the host's to take, no matter what its image enables: distributions' containers that share
// /dev with the host log people out or freeze its screen.
func TestTheHostsTerminalsAreOutOfReach(t *testing.T) {
	h := newHost(t)
	h.sh("mknod /dev/tty0 c 4 0; mknod /dev/tty1 c 4 1; mknod /dev/console c 5 1")
	h.script("/srv/getty", "true")
	h.sh("cd /srv/getty/etc/systemd/system; mkdir -p getty.target.wants; for unit in getty@tty1 console-getty; do " +
		"file=$(echo $unit | sed s/@.*/@/).service; ln -sf /lib/systemd/system/$file getty.target.wants/$unit.service; done")
	h.profile("getty", hostProfile("/srv/getty", "[ready]", `units = ["systemd-logind.service"]`))
	h.must("boxrun", "up", "getty")
	devices := h.must("boxrun", "exec", "getty", "--", "sh", "-c", "ls -l /dev | sed -n 's/^[bc].* //p' | tr '\\n' ' '")
	if want := "full null random tty urandom zero "; devices != want {
		t.Errorf("the box has the devices %s, want %s", devices, want)
	}
	if got := h.must("boxrun", "exec", "getty", "--", "sh", "-c", "ps -eo args | grep -c '[a]getty' || true"); got != "0\n" {
		t.Errorf("%s gettys run in the box", strings.TrimSpace(got))
	}
}

// docs/modes.md says so: sockets without a file belong to a network, and with the host's a box shares them.
func TestAbstractSocketsBelongToTheNetwork(t *testing.T) {
	h := newHost(t)
	h.profile("hostweb", hostProfile("/srv/web"))
	h.profile("lonely", "image = \"/srv/web\"\nnetwork.mode = \"none\"\n")
	h.profile("bridged", "image = \"/srv/web\"\n")
	h.must("boxrun", "up", "hostweb", "lonely", "bridged")
	h.sh("systemd-run -q --unit=abstract socat ABSTRACT-LISTEN:boxrun-test,fork SYSTEM:'echo the-host'")
	for name, want := range map[string]string{"hostweb": "the-host\n", "bridged": "", "lonely": ""} {
		r := h.run("boxrun", "exec", name, "--", "socat", "-u", "ABSTRACT-CONNECT:boxrun-test", "-")
		if r.Stdout != want {
			t.Errorf("%s: got %v, want %q", name, r, want)
		}
	}
}

func TestABoxWithoutANetwork(t *testing.T) {
	h := newHost(t)
	h.profile("lonely", "image = \"/srv/web\"\nnetwork.mode = \"none\"\nready.units = [\"nginx.service\"]\n")
	before := h.dump()
	r := h.run("boxrun", "up", "lonely")
	if r.Code != 0 || !strings.Contains(r.Stderr, "started without a network") {
		t.Fatalf("up: %v", r)
	}
	if got := h.must("boxrun", "exec", "lonely", "--", "ip", "-br", "link"); !strings.HasPrefix(got, "lo ") || strings.Count(got, "\n") != 1 {
		t.Errorf("the box has the links\n%s\nwant lo alone", got)
	}
	if got := boxes(h)[0].Address; got != "none" {
		t.Errorf("ps says %q, want none", got)
	}
	for _, section := range []string{"links", "iptables-nft", "nft", "sysctl"} {
		if got, want := h.dump().Section(section), before.Section(section); got != want {
			t.Errorf("%s changed: got\n%s\nwant\n%s", section, got, want)
		}
	}
	h.must("boxrun", "exec", "lonely", "--", "curl", "-sS", "-m", "5", "http://127.0.0.1/")
	if r := h.run("boxrun", "exec", "lonely", "--", "curl", "-sS", "-m", "5", "http://"+testhost.ClientAddr+"/"); r.Code == 0 {
		t.Errorf("the box reaches the client: %v", r)
	}
	h.must("boxrun", "down", "lonely")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
}

// Boxes of all modes beside each other take nothing away with them that another needs.
func TestModesBesideEachOther(t *testing.T) {
	h := newHost(t)
	h.profile("hostweb", hostProfile("/srv/web"))
	h.profile("lonely", "image = \"/srv/web\"\nnetwork.mode = \"none\"\n")
	before := h.dump()
	h.profile("web", "image = \"/srv/web\"\n[network]\nports = [\"8000:80\"]\n")
	page := func() { h.client("curl", "-sS", "-m", "5", "http://192.0.2.1:8000/") }
	h.must("boxrun", "up", "web", "hostweb", "lonely")
	page()
	h.must("boxrun", "down", "hostweb")
	page()
	h.must("boxrun", "up", "hostweb")
	h.must("boxrun", "down", "web")
	if got := h.must("ip", "-br", "link"); strings.Contains(got, "sbr0") {
		t.Errorf("the bridge outlives the last box on it:\n%s", got)
	}
	h.must("boxrun", "down", "--all")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
}

func TestAnOldApptainerHasNoHostMode(t *testing.T) {
	h := newHost(t)
	h.profile("hostweb", hostProfile("/srv/web"))
	h.sh("mv /usr/bin/apptainer /usr/bin/apptainer.away; printf '#!/bin/sh\\n[ \"$*\" = --version ] && echo apptainer version 1.3.6 && exit\\n" +
		"exec /usr/bin/apptainer.away \"$@\"\\n' > /usr/bin/apptainer; chmod +x /usr/bin/apptainer")
	before := h.dump()
	h.refuses(1, []string{"network.mode", "1.4", "1.3.6"}, "boxrun", "up", "hostweb")
	h.same(before, stays()...)
	h.must("boxrun", "up", "web")
}
