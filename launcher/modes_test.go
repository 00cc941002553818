package launcher

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

func TestTooOld(t *testing.T) {
	for version, want := range map[string]bool{
		"1.3.6": true, "1.3.0-1.el9": true, "0.9": true,
		"1.4.0": false, "1.4.5-2": false, "1.5.3": false, "1.10.0": false, "2.0.0": false, "1.4.0~rc.1": false,
		"unknown": false, "": false,
	} {
		if got := tooOld(version); got != want {
			t.Errorf("%q: got %v, want %v", version, got, want)
		}
	}
}

// apptainerOnPath puts a program named apptainer first on $PATH. The program prints version, and notes that it was run.
func apptainerOnPath(t *testing.T, version string) (ran func() bool) {
	t.Helper()
	dir := t.TempDir()
	mark := filepath.Join(dir, "ran")
	script := "#!/bin/sh\necho > " + mark + "\necho apptainer version " + version + "\n"
	if err := os.WriteFile(filepath.Join(dir, "apptainer"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() bool { return exists(mark) }
}

func TestAnOldApptainerIsRefusedInHostModeAlone(t *testing.T) {
	p := profiles.Default()
	p.File = "/etc/boxrun/profiles/web.toml"
	ran := apptainerOnPath(t, "1.3.6")
	for _, mode := range []string{profiles.BridgeMode, profiles.NoneMode} {
		p.Network.Mode = mode
		if err := refuseHostMode(p); err != nil || ran() {
			t.Errorf("%s: got %v, apptainer asked: %v; want neither", mode, err, ran())
		}
	}
	p.Network.Mode = profiles.HostMode
	err := refuseHostMode(p)
	if !errors.Is(err, ErrRefused) {
		t.Fatalf("got %v, want it refused", err)
	}
	testkit.WantText(t, err.Error(), `/etc/boxrun/profiles/web.toml: network.mode: "host" needs Apptainer 1.4, this is 1.3.6`)
	testkit.WantText(t, HintOf(err), `install Apptainer 1.4 or newer, or use network.mode = "bridge"`)
}

// boxIn returns a box in a mode, with this very process as its init.
func boxIn(t *testing.T, mode string, ports ...string) *Box {
	t.Helper()
	b := &Box{Name: "web", Phase: Running, Profile: profiles.Default()}
	b.Profile.Name, b.Profile.Hostname, b.Profile.Network.Mode = "web", "web", mode
	testkit.Ports(ports...)(&b.Profile)
	var err error
	if b.BootID, err = bootID(); err != nil {
		t.Fatal(err)
	}
	if b.Init, err = openProcess(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStatusOfEachMode(t *testing.T) {
	b := boxIn(t, profiles.HostMode, "80", "127.0.0.1:81:81", "9000-9001/udp")
	s := b.status()
	testkit.WantText(t, s.Address+" "+strings.Join(s.Ports, " "), "host 80/tcp 127.0.0.1:81/tcp 9000-9001/udp")
	testkit.WantText(t, b.Exposure()[0], "80/tcp in the host's own network: the host's firewall decides who reaches it")
	testkit.WantText(t, b.Where(), "in the host's network")

	b = boxIn(t, profiles.NoneMode)
	testkit.WantText(t, b.status().Address+", "+b.Where(), "none, without a network")

	b = boxIn(t, profiles.BridgeMode, "80")
	b.Addr = netip.MustParseAddr("10.22.0.2")
	s = b.status()
	testkit.WantText(t, s.Address+" "+s.Ports[0]+" "+b.Where(), "10.22.0.2 0.0.0.0:80->80/tcp at 10.22.0.2")
}

func TestABoxHoldsWhatItsProcessesHold(t *testing.T) {
	self, err := openProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	b := &Box{Name: "web", Phase: Running, BootID: boot, Init: self}
	b.Profile.Network.Mode = profiles.HostMode
	if !b.holds(os.Getppid()) {
		t.Error("a process of the same PID namespace is not the box's")
	}
	if b.holds(0) || b.holds(1<<22+1) || (*Box)(nil).holds(os.Getpid()) {
		t.Error("a process that is not there is the box's, or no box has one")
	}
}

// Every name is a unit's, stands once, and is masked in the host's network and nowhere else.
func TestNetworkManagersAreMasked(t *testing.T) {
	units := networkManagers()
	for i, unit := range units {
		if unitName(unit) != unit || slices.Contains(units[:i], unit) {
			t.Errorf("%q is no unit's whole name, or stands twice", unit)
		}
	}
	l := &Store{Dir: t.TempDir(), Note: func(string) {}}
	for mode, want := range map[string]bool{profiles.HostMode: true, profiles.BridgeMode: false, profiles.NoneMode: false} {
		b := boxIn(t, mode)
		b.Profile.Network.DNS = []netip.Addr{netip.MustParseAddr("192.0.2.53")}
		c, err := l.told(b, b.Profile, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, unit := range units {
			if got := slices.Contains(c.masked(), unit); got != want {
				t.Errorf("%s: %s masked: got %v, want %v", mode, unit, got, want)
			}
		}
	}
}
