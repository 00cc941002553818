package e2e

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// sandboxes are options of systemd.exec(5) and systemd.resource-control(5) that hold a unit apart from its system, and what
// the unit runs to see it so; "" where a successful start is all.
var sandboxes = []struct{ options, sees string }{
	{"PrivateTmp=yes", "! ls /tmp | grep ."},
	{"PrivateDevices=yes", "[ $(stat -c %d /dev) != $(stat -c %d /proc/1/root/dev) ]"},
	{"PrivateNetwork=yes", "! [ -e /sys/class/net/eth0 ] || ! ip link show eth0"},
	{"PrivateIPC=yes", other("ipc")},
	{"PrivateUsers=yes", "! grep 4294967295 /proc/self/uid_map"},
	{"PrivateMounts=yes", other("mnt")},
	{"ProtectSystem=yes", "! touch /usr/x"},
	{"ProtectSystem=full", "! touch /etc/x"},
	{"ProtectSystem=strict", "! touch /var/x"},
	{"ProtectHome=yes", "! ls -A /root | grep ."},
	{"ProtectHome=read-only", "! touch /root/x"},
	{"ProtectHome=tmpfs", "! ls -A /root | grep ."},
	{"ProtectKernelTunables=yes", "! [ -w /proc/sys/net/ipv4/ip_forward ] || ! sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"},
	{"ProtectKernelModules=yes", ""},
	{"ProtectKernelLogs=yes", ""},
	{"ProtectControlGroups=yes", "! mkdir /sys/fs/cgroup/x"},
	{"ProtectClock=yes", ""},
	{"ProtectHostname=yes", other("uts")},
	{"ProtectProc=invisible\nUser=www-data", "! [ -e /proc/1 ]"},
	{"ProtectProc=noaccess\nUser=www-data", "! cat /proc/1/status"},
	{"ProcSubset=pid", "! [ -e /proc/meminfo ]"},
	{"ReadWritePaths=/var/lib\nProtectSystem=strict", "touch /var/lib/x && ! touch /var/x"},
	{"ReadOnlyPaths=/var", "! touch /var/x"},
	{"InaccessiblePaths=/srv", "[ $(stat -c %a /srv) = 0 ]"},
	{"ExecPaths=/bin /usr/bin /lib /lib64 /usr/lib\nNoExecPaths=/", "cp /bin/true /var/lib/copy && ! /var/lib/copy"},
	{"TemporaryFileSystem=/srv", "touch /srv/x"},
	{"BindPaths=/var/lib:/srv", "ls /srv/dpkg"},
	{"BindReadOnlyPaths=/var/lib:/srv", "ls /srv/dpkg && ! touch /srv/x"},
	{"MountFlags=slave", other("mnt")},
	{"DynamicUser=yes", "[ $(id -u) -gt 60000 ]"},
	{"DynamicUser=yes\nStateDirectory=sd", "touch /var/lib/sd/x"},
	{"DynamicUser=yes\nCacheDirectory=cd\nLogsDirectory=ld\nRuntimeDirectory=rd", "touch /var/cache/cd/x /var/log/ld/x /run/rd/x"},
	{"User=www-data\nStateDirectory=own", "touch /var/lib/own/x"},
	{"ConfigurationDirectory=conf", ""},
	{"LoadCredential=c:/etc/hostname\nUser=www-data", "cat $CREDENTIALS_DIRECTORY/c"},
	{"SetCredential=c:text", "grep text $CREDENTIALS_DIRECTORY/c"},
	{"NoNewPrivileges=yes", "grep 'NoNewPrivs:.*1' /proc/self/status"},
	{"CapabilityBoundingSet=CAP_CHOWN", "grep -i 'CapBnd:.*0001$' /proc/self/status"},
	{"AmbientCapabilities=CAP_NET_BIND_SERVICE\nUser=www-data", "grep -i 'CapEff:.*400$' /proc/self/status"},
	{"SecureBits=noroot", ""},
	{"RestrictNamespaces=yes", "! unshare -u true"},
	{"RestrictNamespaces=~user", ""},
	{"RestrictAddressFamilies=AF_UNIX", "! ping -c 1 -W 1 127.0.0.1"},
	{"RestrictRealtime=yes", ""},
	{"RestrictSUIDSGID=yes", "touch /run/s && ! chmod u+s /run/s"},
	{"RestrictFileSystems=~nfs", ""},
	{"LockPersonality=yes", ""},
	{"MemoryDenyWriteExecute=yes", ""},
	{"SystemCallFilter=@system-service", ""},
	{"SystemCallFilter=~@mount", "! mount -t tmpfs x /mnt"},
	{"SystemCallArchitectures=native", ""},
	{"SystemCallErrorNumber=EPERM\nSystemCallFilter=~@reboot", ""},
	{"SystemCallLog=@mount", ""},
	{"RemoveIPC=yes\nUser=www-data", ""},
	{"KeyringMode=private", ""},
	{"UMask=0077", "touch /run/u && [ $(stat -c %a /run/u) = 600 ]"},
	{"Personality=x86-64", ""},
	{"IPAddressDeny=any", ""},
	{"DevicePolicy=closed", ""},
	{"DeviceAllow=/dev/null rw\nDevicePolicy=strict", "echo > /dev/null"},
	{"MemoryMax=100M\nTasksMax=20\nCPUQuota=50%", ""},
	{"LimitNOFILE=100\nLimitCORE=0", "[ $(ulimit -n) = 100 ]"},
	{"Nice=-5", "[ $(nice) = -5 ]"},
	{"Nice=5\nOOMScoreAdjust=100\nIOSchedulingClass=idle", ""},
	{"CPUSchedulingPolicy=batch", ""},
	{"NetworkNamespacePath=/proc/1/ns/net", "ip link show eth0"},
	{"Delegate=yes", ""},
}

// other returns a look at whether the unit is in a namespace of its own, apart from the box's init.
func other(namespace string) string {
	return fmt.Sprintf("[ $(readlink /proc/self/ns/%[1]s) != $(readlink /proc/1/ns/%[1]s) ]", namespace)
}

// A unit with each sandbox of systemd's starts in a box, and sees what the sandbox promises: at the level default of all, at
// the level strict of all but those that docs/security.md lists.
func TestSandboxesOfUnits(t *testing.T) {
	h := newHost(t)
	var files strings.Builder
	for i, s := range sandboxes {
		fmt.Fprintf(&files, "cat > /srv/units/s%02d.service <<'END'\n[Service]\nType=oneshot\n%s\nExecStart=/bin/sh -c %q\nEND\n", i, s.options,
			strings.NewReplacer("$", "$$", "%", "%%").Replace(cmp.Or(s.sees, "true")))
	}
	h.sh("mkdir -p /srv/units; " + files.String())
	for _, level := range []string{"default", "strict"} {
		t.Run(level, func(t *testing.T) {
			h := h.in(t)
			h.profile("units", secured(level, "[storage]", `binds = ["/srv/units:/usr/local/lib/systemd/system:ro"]`))
			h.must("boxrun", "up", "units")
			defer h.run("boxrun", "down", "units")
			listed, tried := map[string]string{}, map[string]bool{}
			if level == "strict" {
				listed = unconfined(t)
			}
			for i, got := range h.triesSandboxes() {
				name := listedAs(sandboxes[i].options, listed)
				tried[name] = true
				if got != listed[name] {
					t.Errorf("%q: %q, and listed as %q: %s", sandboxes[i].options, got, listed[name],
						h.run("boxrun", "logs", "-n", "8", "-u", fmt.Sprintf("s%02d.service", i), "units").Stdout)
				}
			}
			for name := range listed {
				if !tried[name] {
					t.Errorf("docs/security.md lists %q, which is not tried", name)
				}
			}
		})
	}
}

// The ways in which a sandbox does not hold, by their rows in docs/security.md.
const (
	passedOver = "passed over"
	failing    = "unit fails"
)

// setupFailed matches the exit codes with which systemd fails before a unit's program runs, as 226 for namespaces.
var setupFailed = regexp.MustCompile(`ExecMainStatus=2\d\d\b`)

// triesSandboxes starts the units, and says of each how its sandbox does not hold; "" of one that does.
func (h host) triesSandboxes() []string {
	h.t.Helper()
	units := fmt.Sprintf("$(seq -f 's%%02g.service' 0 %d)", len(sandboxes)-1)
	h.run("boxrun", "exec", "units", "--", "bash", "-c", "systemctl start "+units)
	shown := h.must("boxrun", "exec", "units", "--", "bash", "-c", "systemctl show -p Result,ExecMainStatus "+units)
	var ways []string
	for _, unit := range strings.Split(strings.TrimSpace(shown), "\n\n") {
		switch {
		case strings.Contains(unit, "Result=success"):
			ways = append(ways, "")
		case setupFailed.MatchString(unit):
			ways = append(ways, failing)
		default: // the shell of the unit looked
			ways = append(ways, passedOver)
		}
	}
	if len(ways) != len(sandboxes) {
		h.t.Fatalf("of %d units there are %d results:\n%s", len(sandboxes), len(ways), shown)
	}
	return ways
}

// listedAs returns what docs/security.md calls the first of options: with its value where that is listed, else the name alone.
func listedAs(options string, listed map[string]string) string {
	first, _, _ := strings.Cut(options, "\n")
	if _, ok := listed[first]; ok {
		return first
	}
	name, _, _ := strings.Cut(first, "=")
	return name + "="
}

// unconfined returns how options do not hold at the level strict, by what docs/security.md calls them. The page has the number
// of options as well.
func unconfined(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	if number := fmt.Sprintf("a unit with each of %d options", len(sandboxes)); !strings.Contains(string(text), number) {
		t.Errorf("docs/security.md does not say %q", number)
	}
	ways := map[string]string{}
	for line := range strings.Lines(string(text)) {
		for _, way := range []string{passedOver, failing} {
			if rest, ok := strings.CutPrefix(line, "| "+way+" | "); ok {
				for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(rest, -1) {
					ways[name[1]] = way
				}
			}
		}
	}
	return ways
}
