package netsetup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/offload"
)

// emptyEtc returns an /etc with the directories that programs read, and no files in them.
func emptyEtc(t *testing.T, dirs ...string) string {
	t.Helper()
	etc := t.TempDir()
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(etc, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return etc
}

func systemdDirs() []string { return []string{"sysctl.d", "modules-load.d", "udev/rules.d"} }

func firewalldDirs() []string { return []string{"firewalld/zones", "firewalld/policies"} }

// TestSetupGolden keeps the files, with everything that may be in them.
func TestSetupGolden(t *testing.T) {
	etc := emptyEtc(t, append(systemdDirs(), firewalldDirs()...)...)
	s := Setup{
		Etc: etc, Devices: []string{"eth0", "bond0.17"}, Legacy: true, Ethtool: "/usr/sbin/ethtool", Firewalld: true, Inotify: true,
		Bridges: []Network{{Bridge: "br-kept"}, {Bridge: "sbr0", Offload: offload.Off}}, Zoned: []string{"br-kept", "sbr0"},
	}
	p := s.Plan()
	got := strings.Join(append(p.Commands(), append([]string{"# host reset"}, p.UndoCommands()...)...), "\n") + "\n"
	golden(t, "testdata/setup.golden", strings.ReplaceAll(got, etc, "/etc"))
}

// What nothing reads on this host is not written, and said.
func TestSetupWithoutReaders(t *testing.T) {
	etc := emptyEtc(t, "sysctl.d", "udev/rules.d")
	s := Setup{Etc: etc, Bridges: []Network{{Bridge: "sbr0", Offload: offload.Off}}}
	var files []string
	for _, f := range s.Plan().Files {
		if f.Text != "" {
			files = append(files, strings.TrimPrefix(f.Path, etc))
		}
	}
	if got, want := strings.Join(files, " "), "/sysctl.d/90-boxrun.conf"; got != want {
		t.Errorf("files: got %s, want %s", got, want)
	}
	got := strings.ReplaceAll(strings.Join(s.Missing(), "\n"), etc, "/etc")
	want := `/etc/modules-load.d/boxrun.conf is not written, as there is no /etc/modules-load.d
/etc/udev/rules.d/90-boxrun.rules is not written, as ethtool is not installed: up turns offload off by itself`
	if got != want {
		t.Errorf("missing:\ngot:\n%s\nwant:\n%s", got, want)
	}
}

// The commands of the removal are those that undo a setup.
func TestSetupRemovalAsTyped(t *testing.T) {
	want := `rm -f /etc/firewalld/policies/boxrun-out.xml
rm -f /etc/firewalld/zones/boxrun.xml
! firewall-cmd -q --state 2>/dev/null || firewall-cmd -q --reload
rm -f /etc/udev/rules.d/90-boxrun.rules
rm -f /etc/modules-load.d/boxrun.conf
rm -f /etc/sysctl.d/90-boxrun.conf`
	if got := strings.Join(SetupRemoval("/etc").UndoCommands(), "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// A file that is not needed any more goes, but not somebody else's of its name.
func TestFileNotNeeded(t *testing.T) {
	for text, want := range map[string]string{"# " + setupMark + "\n": "", "mine\n": "mine\n"} {
		f := File{Path: filepath.Join(t.TempDir(), "90.rules")}
		if err := os.WriteFile(f.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := Plan{Files: []File{f}}
		if err := errorsOf(p.Record(nil), p.Apply(nil)); err != nil {
			t.Error(err)
		}
		if got, _ := os.ReadFile(f.Path); string(got) != want {
			t.Errorf("%q: left %q, want %q", text, got, want)
		}
		if err := p.Files[0].undo(nil); err != nil {
			t.Error(err)
		}
		if got, _ := os.ReadFile(f.Path); string(got) != text {
			t.Errorf("after undo: got %q, want %q", got, text)
		}
	}
}

// A bridge that the administrator has put into a zone stays there.
func TestUnzoned(t *testing.T) {
	etc := emptyEtc(t, firewalldDirs()...)
	for name, text := range map[string]string{
		"lab.xml":    `<zone><interface name="br-lab"/></zone>`,
		"boxrun.xml": `<zone><interface name="sbr0"/></zone>`,
	} {
		if err := os.WriteFile(filepath.Join(etc, "firewalld/zones", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := unzoned(etc, []Network{{Bridge: "br-lab"}, {Bridge: "br-la"}, {Bridge: "sbr0"}})
	if want := []string{"br-la", "sbr0"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

const setupDeeds = `wrote /etc/sysctl.d/90-boxrun.conf
wrote /etc/modules-load.d/boxrun.conf
wrote /etc/udev/rules.d/90-boxrun.rules
set sysctl net.ipv4.ip_forward to 1 (it was 0)
set sysctl net.ipv4.conf.all.rp_filter to 2 (it was 0)
set sysctl net.ipv4.conf.default.rp_filter to 2 (it was 0)
set sysctl net.ipv4.conf.ext1.rp_filter to 2 (it was 0)
set sysctl net.ipv4.conf.ext0.rp_filter to 2 (it was 1)
set up firewalld's zone boxrun`

// What a setup did says what was there before.
func TestDeeds(t *testing.T) {
	older := "older"
	for want, s := range map[string]step{
		"wrote /etc/a":      &File{Path: "/etc/a", Text: "new"},
		"wrote /etc/a anew": &File{Path: "/etc/a", Text: "new", Before: &older},
		"removed /etc/a":    &File{Path: "/etc/a", Before: &older},
		"loaded the kernel modules bridge iptable_nat":   &Modules{Names: []string{"bridge", "iptable_nat"}},
		"set sysctl net.ipv4.ip_forward to 1 (it was 0)": &Sysctl{Key: "net.ipv4.ip_forward", Value: "1", Before: []Setting{{"net.ipv4.ip_forward", "0"}, {"x", "y"}}},
		"set up firewalld's zone boxrun":                 &PermanentZone{},
	} {
		if got := deed(s); got != want {
			t.Errorf("got:  %s\nwant: %s", got, want)
		}
	}
}

func TestSetupOnAHost(t *testing.T) {
	nstest.WithBackend(t, "nft", nstest.SideBySide, testSetupOnAHost)
}

func testSetupOnAHost(t *testing.T) {
	h := newTestHost(t)
	etc := emptyEtc(t, append(systemdDirs(), firewalldDirs()...)...)
	s, err := LookSetup(h.k, etc, []Network{sbr0()})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Devices, []string{"ext1", "ext0"}) || s.Legacy || !s.Firewalld || !slices.Equal(s.Zoned, []string{"sbr0"}) {
		t.Errorf("looked up: %+v", s)
	}
	s.Ethtool = "/usr/sbin/ethtool" // installed or not
	s.Inotify = false               // the number is the whole machine's
	before := dumpHost(t)
	p := s.Plan()
	if err := p.Record(h.k); err != nil {
		t.Fatal(err)
	}
	deeds, err := p.Deeds(h.k)
	if err := errorsOf(err, p.Apply(h.k)); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.ReplaceAll(strings.Join(deeds, "\n"), etc, "/etc"), setupDeeds; got != want {
		t.Errorf("done: got\n%s\nwant\n%s", got, want)
	}
	want := "1 2 2 2"
	if got := strings.ReplaceAll(nstest.Shell(t, "sysctl -n net.ipv4.ip_forward net.ipv4.conf.{all,default,ext0}.rp_filter"), "\n", " "); got != want {
		t.Errorf("ip_forward and rp_filter: got %s, want %s", got, want)
	}
	if drift, err := s.Plan().Drift(h.k); len(drift) > 0 || err != nil {
		t.Errorf("after the setup, drifted: %v, %v", drift, err)
	}
	if deeds, err := s.Plan().Deeds(h.k); len(deeds) > 0 || err != nil {
		t.Errorf("after the setup, to be done: %v, %v", deeds, err)
	}
	if lines, err := s.Plan().RepairCommands(h.k); len(lines) > 0 || err != nil {
		t.Errorf("after the setup, pending: %v, %v", lines, err)
	}
	if err := p.Undo(h.k); err != nil {
		t.Error(err)
	}
	sameHost(t, "after undo", dumpHost(t), before)
	if files, err := SetupFiles(etc); len(files) > 0 || err != nil {
		t.Errorf("after undo there are %v, %v", files, err)
	}
}

// SetupRemoval needs no record, and leaves alone what is not boxrun's.
func TestSetupRemoval(t *testing.T) {
	etc := emptyEtc(t, append(systemdDirs(), firewalldDirs()...)...)
	s := Setup{Etc: etc, Ethtool: "/usr/sbin/ethtool", Firewalld: true, Bridges: []Network{{Bridge: "sbr0", Offload: offload.Off}}, Zoned: []string{"sbr0"}}
	p := s.Plan()
	for i := range p.Files[1:] {
		if err := p.Files[i+1].ensure(nil); err != nil {
			t.Fatal(err)
		}
	}
	theirs := p.Files[0].Path
	if err := errorsOf(p.Firewalld.Zone.ensure(nil), p.Firewalld.Policy.ensure(nil), os.WriteFile(theirs, []byte("theirs\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if files, err := SetupFiles(etc); len(files) != 4 || err != nil {
		t.Errorf("before, the setup's files are %v, %v", files, err)
	}
	for _, f := range allSetupFiles(etc) {
		if err := f.undo(nil); err != nil {
			t.Error(err)
		}
	}
	if got, want := nstest.Run(t, "find", etc, "-type", "f"), theirs; got != want {
		t.Errorf("left: got\n%s\nwant\n%s", got, want)
	}
}

func TestFile(t *testing.T) {
	const older, text = "# " + setupMark + "\nold\n", "# " + setupMark + "\nnew\n"
	write := func(text string) func(path string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	for _, c := range []struct {
		name    string
		before  func(path string) error
		drift   string // what check says of FILE
		foreign bool
		undone  string // what is there after undo
	}{
		{"nothing there", func(string) error { return nil }, "FILE is missing", false, ""},
		{"an older one", write(older), "FILE has been changed", false, older},
		{"the same", write(text), "", false, text},
		{"somebody else's", write("mine\n"), "FILE: something is there that boxrun did not write", true, "mine\n"},
		{"a link", func(path string) error { return os.Symlink("/dev/null", path) },
			"FILE: something is there that boxrun did not write, and no file", true, ""},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) },
			"FILE: something is there that boxrun did not write, and no file", true, ""},
		{"what a killed boxrun left", func(path string) error {
			return write("half")(filepath.Join(filepath.Dir(path), ".90.conf.new"))
		}, "FILE is missing", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := File{Path: filepath.Join(t.TempDir(), "90.conf"), Text: text}
			if err := c.before(f.Path); err != nil {
				t.Fatal(err)
			}
			drift, err := f.check(nil)
			if got := strings.ReplaceAll(strings.Join(drift, "\n"), f.Path, "FILE"); got != c.drift || err != nil {
				t.Errorf("check: got %q, %v, want %q", got, err, c.drift)
			}
			err = errorsOf(f.record(nil), f.ensure(nil))
			if errors.Is(err, ErrForeign) != c.foreign || err != nil && !c.foreign {
				t.Fatalf("record and ensure: %v", err)
			}
			if got, _ := os.ReadFile(f.Path); !c.foreign && string(got) != text {
				t.Errorf("put in place: got %q, want %q", got, text)
			}
			if err := f.undo(nil); err != nil {
				t.Error(err)
			}
			if got, _ := os.ReadFile(f.Path); string(got) != c.undone {
				t.Errorf("after undo: got %q, want %q", got, c.undone)
			}
			if _, err := os.Lstat(f.temp()); err == nil {
				t.Errorf("%s is left", f.temp())
			}
		})
	}
}

// A read-only file system is named, for ensure and for undo.
func TestFileOnReadOnly(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	f := File{Path: "/run/etc/90.conf", Text: setupMark + "\n"}
	nstest.Shell(t, "mkdir /run/etc; mount -t tmpfs tmpfs /run/etc")
	if err := f.ensure(nil); err != nil {
		t.Fatal(err)
	}
	f.Text += "more\n"
	nstest.Shell(t, "mount -o remount,ro /run/etc")
	if err := f.ensure(nil); !errors.Is(err, ErrReadOnly) {
		t.Errorf("ensure: %v, want that the file system is read-only", err)
	}
	if err := f.undo(nil); !errors.Is(err, ErrReadOnly) {
		t.Errorf("undo: %v, want that the file system is read-only", err)
	}
	nstest.Shell(t, "rm /run/etc/90.conf 2> /dev/null || mount -o remount,rw /run/etc; rm -f /run/etc/90.conf; mount -o remount,ro /run/etc")
	if err := f.undo(nil); err != nil {
		t.Errorf("undo of nothing: %v", err)
	}
}
