package confine

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

var update = flag.Bool("update", false, "write testdata anew")

// profileAt returns a profile with a level of [security].
func profileAt(level string, added ...string) profiles.Profile {
	p := profiles.Default()
	p.Security.Level, p.Security.Capabilities = level, added
	return p
}

func TestCapabilitiesOfLevels(t *testing.T) {
	strictInHost := profileAt("strict")
	strictInHost.Network.Mode = profiles.HostMode
	for name, test := range map[string]struct {
		profile profiles.Profile
		want    string
	}{
		"default":                    {profileAt("default"), "fdacbfff"},
		"default and more":           {profileAt("default", "CAP_SYS_TIME", "CAP_BPF"), "80ffacbfff"},
		"strict":                     {profileAt("strict"), "800435fb"},
		"strict and more":            {profileAt("strict", "CAP_SYS_NICE"), "808435fb"},
		"strict, the host's network": {strictInHost, "800425fb"},
		"host":                       {profileAt("host"), "1ffffbdffff"},
		"of an older boxrun":         {profileAt(""), "1ffffbdffff"},
	} {
		mask := maskOf(capabilities(test.profile.Security, sharesNetwork(test.profile)))
		testkit.WantText(t, fmt.Sprintf("%s: %x", name, mask), name+": "+test.want)
	}
}

// A command that enters the box gets no more from Apptainer than the box has, but for what Apptainer itself needs.
func TestDroppedOnEntering(t *testing.T) {
	for _, level := range []string{"default", "strict", "host", ""} {
		p := profileAt(level)
		dropped := strings.Split(Dropped(p), ",")
		for _, name := range dropped {
			if maskOf([]string{name})&maskOf(capabilities(p.Security, false)) != 0 || name == "CAP_SYS_ADMIN" {
				t.Errorf("%s: %s is dropped, want it kept", level, name)
			}
		}
		all := maskOf(dropped) | maskOf(capabilities(p.Security, false)) | maskOf([]string{"CAP_SYS_ADMIN"})
		testkit.WantText(t, fmt.Sprintf("%s: %x", level, all), level+": 1ffffffffff")
	}
}

// The files that Apptainer reads are data for people as well: a dry run prints them.
func TestFilesAreAsWritten(t *testing.T) {
	p := profileAt("default", "CAP_SYS_MODULE", "CAP_BPF")
	p.Resources = profiles.Resources{Memory: 512 << 20, CPUs: 1.5, PIDs: 100}
	var got strings.Builder
	for _, f := range Files(p, []Device{{"c", 10, 229}}, "/run/boxrun/boxes/web").Files {
		fmt.Fprintf(&got, "== %s\n%s", f.Path, f.Content)
	}
	golden := filepath.Join("testdata", "files.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, got.String(), string(want))
}

// Apptainer 1.4 refuses a filter with a call that has the default action, and skips calls that the kernel lacks.
func TestNoCallIsDeniedTwice(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range deniedCalls() {
		for _, call := range strings.Fields(d.calls) {
			if seen[call] {
				t.Errorf("%s is denied twice", call)
			}
			seen[call] = true
		}
		if d.capability != "" && maskOf([]string{d.capability}) == 0 {
			t.Errorf("%s is no capability", d.capability)
		}
	}
}

func TestDevices(t *testing.T) {
	p := profileAt("default")
	p.File = "/etc/boxrun/profiles/web.toml"
	p.Security.Devices = []string{"/dev/null", "/dev/pts/ptmx"}
	p.Storage.Binds = []profiles.Bind{{Source: "/dev/zero", Target: "/dev/zero"}, {Source: "/etc", Target: "/data"}}
	found, err := LookDevices(p)
	testkit.WantText(t, fmt.Sprint(found, err), "[{c 1 3} {c 5 2} {c 1 5}] <nil>")

	p.Security.Devices = []string{"/dev/nosuch", "/etc/hostname"}
	_, err = LookDevices(p)
	testkit.WantText(t, fmt.Sprint(err), "/etc/boxrun/profiles/web.toml: security.devices: /dev/nosuch: no such file or directory\n"+
		"/etc/boxrun/profiles/web.toml: security.devices: /etc/hostname: is no device")

	p.Security.Level = "host"
	if found, err := LookDevices(p); found != nil || err != nil {
		t.Errorf("at the level host: got %v, %v, want nothing", found, err)
	}
}

// A box that is not confined starts as without this package.
func TestTheLevelHostAddsNothing(t *testing.T) {
	p := profileAt("host")
	got := fmt.Sprint(Files(p, nil, "/d").Files, Flags(p, "/d", "/b"), Environment(p, false, nil, ""), UselessUnits(p.Security))
	testkit.WantText(t, got, "[] [] [] []")
}
