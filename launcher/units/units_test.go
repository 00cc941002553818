package units

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/unit"

	"boxrun/launcher/box"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

func TestSharedUnits(t *testing.T) {
	l := &box.Store{Exe: "/usr/local/bin/boxrun"}
	files, err := sharedUnits(l, "/etc/systemd/system")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		`/etc/systemd/system/boxrun@.service
# Written by "boxrun enable"; the last "boxrun disable" removes it. The stop has its time from profile.conf beside it.
[Unit]
Description=box %i of boxrun
Wants=network-online.target
After=network-online.target remote-fs.target dbus.service nftables.service iptables.service ufw.service netfilter-persistent.service firewalld.service docker.service
StartLimitIntervalSec=10min
StartLimitBurst=5

[Service]
Type=notify
# A start that is told to stop as its box becomes ready takes back its word of what the main process is.
NotifyAccess=all
ExecStart=/usr/local/bin/boxrun up %i
ExecStop=/usr/local/bin/boxrun down %i
# A start that is told to stop ends with the signal or with 128 and its number, and there is no ExecStop for it.
SuccessExitStatus=165 SIGRTMIN+3
ExecStopPost=/bin/sh -c 'case "$$SERVICE_RESULT $$EXIT_STATUS" in "success 165" | "success RTMIN+3") exec /usr/local/bin/boxrun down %i;; esac'
# Apptainer's master hands every signal to the box's init, to whom SIGTERM means "start yourself anew".
KillMode=mixed
KillSignal=SIGRTMIN+3
TimeoutStartSec=5min
TimeoutStopSec=150s
Restart=on-failure
RestartSec=2s
# A profile that is invalid, or is not there, will be so again.
RestartPreventExitStatus=2 3
Slice=system.slice

[Install]
WantedBy=multi-user.target
`,
		`/etc/systemd/system/boxrun-repair@.service
# Written by "boxrun enable"; the last "boxrun disable" removes it.
[Unit]
Description=Put the rules of boxrun's boxes back after %i.service
After=%i.service
PartOf=%i.service
ReloadPropagatedFrom=%i.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/bin/boxrun repair
ExecReload=/usr/local/bin/boxrun repair
Slice=system.slice

[Install]
WantedBy=%i.service
`,
		`/etc/systemd/system/boxrun-watch@.service
# Written by "boxrun enable"; the last "boxrun disable" removes it.
[Unit]
Description=Put the network of boxrun's boxes back whenever the %i changes it
After=dbus.service network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=/usr/local/bin/boxrun watch
# It only waits: one thread's worth of work, and little of memory.
Environment=GOMAXPROCS=1 GOGC=20
Restart=on-failure
RestartSec=1s
Slice=system.slice

[Install]
WantedBy=multi-user.target
`,
	} {
		if got := files[i].Path + "\n" + files[i].Content; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// TestRepairersAreNoBoxes wants names that no box's service can have.
func TestRepairersAreNoBoxes(t *testing.T) {
	for _, unit := range Repairers() {
		box := strings.TrimSuffix(strings.TrimPrefix(unit, "boxrun-"), ".service")
		if Transient(box) != unit || profiles.CheckName(box) == nil {
			t.Errorf("a box may be named %q, and its service %s", box, unit)
		}
	}
}

// TestInstanceUnit wants a service of its own for each box. Boxes made from the file of another box, as doctor makes
// them, do not get the other box's service.
func TestInstanceUnit(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"web", "/etc/boxrun/profiles/web.toml", "boxrun@web.service"},
		{"web-1", "/etc/boxrun/profiles/web.toml", "boxrun@web@1.service"},
		{"hello", "builtin:hello", "boxrun@hello.service"},
		{"selftest-1", "builtin:hello", "boxrun@hello@selftest-1.service"},
	} {
		testkit.WantText(t, Instance(profiles.Profile{Name: test.name, File: test.file}), test.want)
	}
}

// unitProfile is a profile with all that its unit depends on.
func unitProfile() profiles.Profile {
	p := profiles.Default()
	p.Name, p.File, p.Image = "web-1", "/etc/boxrun/profiles/web.toml", "/srv/web.sif"
	p.DependsOn = []string{"db", "cache@a"}
	p.Storage = profiles.Storage{Root: "overlay", Overlay: "/var/lib/boxrun/web-1/overlay",
		Binds: []profiles.Bind{{Source: `/srv/50% "x" \n`, Target: "/data"}}}
	p.Systemd.StopTimeout = 1500 * time.Millisecond
	p.Systemd.Restart = "no"
	p.Health.OnFailure = "mail@.service"
	return p
}

func TestDropIn(t *testing.T) {
	f := dropIn("/etc/systemd/system", unitProfile())
	want := `/etc/systemd/system/boxrun@web@1.service.d/profile.conf
# Written by "boxrun enable" and "boxrun up" from /etc/boxrun/profiles/web.toml.
[Unit]
After=boxrun@db.service boxrun-db.service boxrun@cache@a.service boxrun-cache-a.service
RequiresMountsFor="/srv/web.sif" "/var/lib/boxrun/web-1/overlay" "/srv/50%% \"x\" \\n"
OnFailure=mail@web-1.service

[Service]
TimeoutStartSec=240s
TimeoutStopSec=32s
Restart=no
`
	if got := f.Path + "\n" + f.Content; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A profile that needs nothing of the host has no empty settings.
func TestDropInOfHello(t *testing.T) {
	p := profiles.Default()
	p.Name, p.File, p.Image = "hello", "builtin:hello", "builtin:hello"
	want := `# Written by "boxrun enable" and "boxrun up" from builtin:hello.
[Unit]

[Service]
TimeoutStartSec=240s
TimeoutStopSec=150s
Restart=on-failure
`
	if got := dropIn("", p).Content; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// systemd itself reads the units, and finds nothing to say.
func TestSystemdTakesTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		testkit.Cannot(t, "no systemd-analyze here")
	}
	dir := t.TempDir()
	boxrun := filepath.Join(dir, "boxrun")
	if err := os.WriteFile(boxrun, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := sharedUnits((&box.Store{Exe: boxrun}), dir)
	if err != nil {
		t.Fatal(err)
	}
	firewalld := unitFile(filepath.Join(dir, "firewalld.service"), "[Service]\nExecStart=/bin/true\n")
	if err := writeUnits(append(files, firewalld, dropIn(dir, unitProfile()))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, "boxrun@web@1.service"),
		filepath.Join(dir, repairUnit("firewalld.service")), filepath.Join(dir, WatchUnit))
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// The transient service is what boxrun@.service is, where both say something.
func TestTransientServiceIsTheTemplate(t *testing.T) {
	p := unitProfile()
	b := &box.Box{Name: p.Name, Profile: p}
	properties := transientProperties(b, []string{"/usr/bin/apptainer", "$HOME"}, []string{"/usr/local/bin/boxrun", "down", "web-1"}, []string{"A=b"})
	var got strings.Builder
	for _, property := range properties {
		got.WriteString(property.Name + " " + property.Value.String() + "\n")
	}
	want := `Description "box web-1 of boxrun"
Type "forking"
After ["network-online.target", "remote-fs.target", "dbus.service", "nftables.service", "iptables.service", "ufw.service", ` +
		`"netfilter-persistent.service", "firewalld.service", "docker.service", "boxrun@db.service", "boxrun-db.service", ` +
		`"boxrun@cache@a.service", "boxrun-cache-a.service"]
ExecStart [("/usr/bin/apptainer", ["/usr/bin/apptainer", "$$HOME"], false,)]
ExecStop [("/usr/local/bin/boxrun", ["/usr/local/bin/boxrun", "down", "web-1"], false,)]
Environment ["A=b"]
UnsetEnvironment ["INVOCATION_ID", "JOURNAL_STREAM", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "SYSTEMD_EXEC_PID"]
StandardOutput "null"
KillMode "mixed"
KillSignal 37
TimeoutStartUSec @t 150000000
TimeoutStopUSec @t 31500000
CollectMode "inactive-or-failed"
ExecStopPost [("/bin/sh", ["/bin/sh", "-c", "case $$SERVICE_RESULT in success) ;; *) exec systemctl start --no-block \"$$0\" ;; esac", "mail@web-1.service"], false,)]
RequiresMountsFor ["/srv/web.sif", "/var/lib/boxrun/web-1/overlay", "/srv/50% \"x\" \\n"]
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	for _, key := range []string{"KillMode", "After"} {
		if template, transient := setting(t, key), propertyText(t, properties, key); !strings.HasPrefix(transient, template) {
			t.Errorf("%s is %q in boxrun@.service and %q in the transient one", key, template, transient)
		}
	}
}

// A dry run prints the command for the same service.
func TestTransientServiceAsCommand(t *testing.T) {
	p := unitProfile()
	b := &box.Box{Name: p.Name, Profile: p}
	properties := transientProperties(b, []string{"/usr/bin/apptainer", "$HOME"}, []string{"/usr/local/bin/boxrun", "down", "web-1"}, []string{"A=b", "C=d e"})
	testkit.WantText(t, systemdRun("boxrun-web-1.service", properties), `systemd-run -q --unit=boxrun-web-1.service -p 'Description=box web-1 of boxrun' -p Type=forking `+
		`-p 'After=network-online.target remote-fs.target dbus.service nftables.service iptables.service ufw.service `+
		`netfilter-persistent.service firewalld.service docker.service boxrun@db.service boxrun-db.service boxrun@cache@a.service boxrun-cache-a.service' `+
		`-p 'ExecStop=/usr/local/bin/boxrun down web-1' -E A=b -E 'C=d e' `+
		`-p 'UnsetEnvironment=INVOCATION_ID JOURNAL_STREAM MEMORY_PRESSURE_WATCH MEMORY_PRESSURE_WRITE SYSTEMD_EXEC_PID' -p StandardOutput=null -p KillMode=mixed -p KillSignal=37 `+
		`-p TimeoutStartSec=150 -p TimeoutStopSec=32 -p CollectMode=inactive-or-failed `+
		`-p 'ExecStopPost=/bin/sh -c "case $$SERVICE_RESULT in success) ;; *) exec systemctl start --no-block \"$$0\" ;; esac" mail@web-1.service' -p 'RequiresMountsFor=/srv/web.sif /var/lib/boxrun/web-1/overlay "/srv/50% \"x\" \\n"' \
  /usr/bin/apptainer '$$HOME'`)
}

// setting gives the value of a key in boxrun@.service.
func setting(t *testing.T, key string) string {
	t.Helper()
	files, err := sharedUnits((&box.Store{Exe: "/boxrun"}), "")
	if err != nil {
		t.Fatal(err)
	}
	options, err := unit.DeserializeOptions(strings.NewReader(files[0].Content))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(options, func(o *unit.UnitOption) bool { return o.Name == key })
	if i < 0 {
		t.Fatalf("boxrun@.service has no %s", key)
	}
	return options[i].Value
}

// propertyText gives the value of a property as a unit's text has it.
func propertyText(t *testing.T, properties []systemdbus.Property, key string) string {
	t.Helper()
	i := slices.IndexFunc(properties, func(p systemdbus.Property) bool { return p.Name == key })
	if i < 0 {
		t.Fatalf("the transient service has no %s", key)
	}
	if list, ok := properties[i].Value.Value().([]string); ok {
		return strings.Join(list, " ")
	}
	return properties[i].Value.Value().(string)
}

func TestUnitsOfBoxes(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"web", "/etc/boxrun/profiles/web.toml", "boxrun-web.service boxrun@web.service"},
		{"web-1", "/etc/boxrun/profiles/web.toml", "boxrun-web-1.service boxrun@web@1.service"},
		{"web-1", "/etc/boxrun/profiles/web-1.toml", "boxrun-web-1.service boxrun@web-1.service"},
		{"hello", "builtin:hello", "boxrun-hello.service boxrun@hello.service"},
		{"hello-b", "builtin:hello", "boxrun-hello-b.service boxrun@hello@b.service"},
	} {
		p := profiles.Default()
		p.Name, p.File = c.name, c.file
		units := unitsOf((&box.Box{Name: c.name, Profile: p}))
		if got := strings.Join(units, " "); got != c.want {
			t.Errorf("%s of %s: got %s, want %s", c.name, c.file, got, c.want)
		}
		for _, unit := range units {
			if !IsOf(unit, c.name) || IsOf(unit, "web-2") {
				t.Errorf("%s is not told to be of %s alone", unit, c.name)
			}
		}
	}
	for _, other := range []string{"", "boxrun-repair@web.service", "boxrun-web.scope", "web.service"} {
		if IsOf(other, "web") {
			t.Errorf("%q is told to be of web", other)
		}
	}
}

func TestAnOddPathOfBoxrunIsRefused(t *testing.T) {
	for _, exe := range []string{"/home/x y/boxrun", "/opt/100%/boxrun", "boxrun", `/opt/a"b/boxrun`, "/opt/$x/boxrun"} {
		if _, err := sharedUnits((&box.Store{Exe: exe}), "/etc"); err == nil {
			t.Errorf("%q was written into a unit", exe)
		}
	}
}

func TestOnlyTheHostsProfilesAreEnabled(t *testing.T) {
	p := profiles.Default()
	p.Name, p.File = "web", "/home/alice/web.toml"
	if Enabled(p) {
		t.Error("a profile of alice's is said to start at boot")
	}
}

// TestLookCommand wants the units that look at a box, bound to its service.
func TestLookCommand(t *testing.T) {
	p := unitProfile()
	p.Health.Interval, p.Health.Timeout = 30*time.Second, 10*time.Second
	b := &box.Box{Name: p.Name, Profile: p, Unit: "boxrun-web-1.service"}
	service, err := lookService(&box.Store{Dir: box.StateDir, Exe: "/usr/local/bin/boxrun"}, b)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, typedLooks(b, service), `systemd-run -q --unit=boxrun-health@web-1 --timer-property=OnActiveSec=30 `+
		`--timer-property=OnUnitActiveSec=30 --timer-property=AccuracySec=1 --timer-property=BindsTo=boxrun-web-1.service `+
		`--timer-property=After=boxrun-web-1.service -p 'Description=look at box web-1 of boxrun' -p Type=oneshot `+
		`-p TimeoutStartSec=40 -p SyslogIdentifier=boxrun -p SyslogLevel=5 -p LogLevelMax=5 -p Slice=system.slice `+
		"-p CollectMode=inactive-or-failed -p StartLimitIntervalSec=0 \\\n  /usr/local/bin/boxrun health web-1")
}
