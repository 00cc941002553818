package box

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

func TestTooOld(t *testing.T) {
	for version, want := range map[string]bool{
		"1.3.6": true, "1.3.0-1.el9": true, "0.9": true,
		"1.4.0": false, "1.4.5-2": false, "1.5.3": false, "1.10.0": false, "2.0.0": false, "1.4.0~rc.1": false,
		"unknown": false, "": false,
	} {
		if got := apptainer.TooOld(version); got != want {
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
	return func() bool { return files.Exists(mark) }
}

func TestAnOldApptainerIsRefusedInHostModeAlone(t *testing.T) {
	p := profiles.Default()
	p.File = "/etc/boxrun/profiles/web.toml"
	ran := apptainerOnPath(t, "1.3.6")
	for _, mode := range []string{profiles.BridgeMode, profiles.NoneMode} {
		p.Network.Mode = mode
		if err := RefuseHostMode(t.Context(), p); err != nil || ran() {
			t.Errorf("%s: got %v, apptainer asked: %v; want neither", mode, err, ran())
		}
	}
	p.Network.Mode = profiles.HostMode
	err := RefuseHostMode(t.Context(), p)
	if !errors.Is(err, fault.ErrRefused) {
		t.Fatalf("got %v, want it refused", err)
	}
	testkit.WantText(t, err.Error(), `/etc/boxrun/profiles/web.toml: network.mode: "host" needs Apptainer 1.4, this is 1.3.6`)
	testkit.WantText(t, fault.HintOf(err), `install Apptainer 1.4 or newer, or use network.mode = "bridge"`)
}

func TestABoxHoldsWhatItsProcessesHold(t *testing.T) {
	self, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	boot, err := process.BootID()
	if err != nil {
		t.Fatal(err)
	}
	b := &Box{Name: "web", Phase: Running, BootID: boot, Init: self}
	b.Profile.Network.Mode = profiles.HostMode
	if !b.Holds(os.Getppid()) {
		t.Error("a process of the same PID namespace is not the box's")
	}
	if b.Holds(0) || b.Holds(1<<22+1) || (*Box)(nil).Holds(os.Getpid()) {
		t.Error("a process that is not there is the box's, or no box has one")
	}
}
