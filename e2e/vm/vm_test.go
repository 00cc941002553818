package vm

import (
	"context"
	"embed"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

//go:embed testdata/*.sh
var scripts embed.FS

// patience is how long one boot with its stage may take: two minutes where the processor is one's own.
const patience = 25 * time.Minute

// TestMachine goes through the life of one host: as it was installed, with boxes that have limits, started without
// systemd, without IPv6, and after a reboot with all that "boxrun host setup" made last, but without the memory controller.
func TestMachine(t *testing.T) {
	if os.Getenv("BOXRUN_VM") == "" {
		t.Skip("boots a virtual machine, for minutes: run \"make test-vm\"")
	}
	if os.Geteuid() != 0 {
		t.Fatal("making the machine's disk needs root")
	}
	m := newHost(t)
	t.Run("never set up", func(t *testing.T) { stageOf(t, m, "fresh") })
	t.Run("limits", func(t *testing.T) { stageOf(t, m, "limits") })
	t.Run("without systemd", func(t *testing.T) { stageOf(t, m, "bare", bareInit) })
	t.Run("a kernel without IPv6", func(t *testing.T) { stageOf(t, m, "four", "ipv6.disable=1") })
	t.Run("set up, after a reboot", func(t *testing.T) { stageOf(t, m, "setup", "cgroup_disable=memory") })
}

// newHost gives a machine, off, with the boxrun of this source.
func newHost(t *testing.T) machine {
	t.Helper()
	stages := map[string]string{}
	files, err := scripts.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := scripts.ReadFile("testdata/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		stages[strings.TrimSuffix(f.Name(), ".sh")] = string(text)
	}
	dir := t.TempDir()
	if err := testhost.Build(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	m, err := newMachine(t.Context(), dir, filepath.Join(dir, "boxrun"), stages, func(step string) { t.Log(step) })
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// stageOf runs a stage, with each of its checks a test.
func stageOf(t *testing.T, m machine, stage string, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	results, err := m.run(ctx, stage, words...)
	t.Logf("booted, checked and off in %s", time.Since(began).Round(time.Second))
	for _, r := range results {
		t.Run(r.Name, func(t *testing.T) {
			t.Log("\n" + r.Output)
			if !r.OK {
				t.Fail()
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestParse is about what the machine says.
func TestParse(t *testing.T) {
	results, done := parse("noise\r\nok one\r\n# a\r\n# \r\n# b\r\nnot ok two\r\n# c\r\ndone\r\nnot ok after\r\n")
	want := []result{{Name: "one", OK: true, Output: "a\n\nb\n"}, {Name: "two", Output: "c\n"}}
	if len(results) != 2 || results[0] != want[0] || results[1] != want[1] || !done {
		t.Errorf("got %+v and %v, want %+v and true", results, done, want)
	}
	if _, done := parse("ok one\n"); done {
		t.Error("a stage that was cut short passes for a whole one")
	}
}
