package limits

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/fault"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// What a limit is to Apptainer, to the kernel and to systemd.
func TestLimitsOf(t *testing.T) {
	tests := map[string]struct {
		limits profiles.Resources
		want   string
	}{
		"none": {profiles.Resources{}, `
memory.max "max" MemoryMax=infinity @t 18446744073709551615
memory.swap.max "max" MemorySwapMax=infinity @t 18446744073709551615
cpu.max "max 100000" CPUQuota= @t 18446744073709551615
pids.max "max" TasksMax=infinity @t 18446744073709551615
`},
		"all": {profiles.Resources{Memory: 512 << 20, CPUs: 1.5, PIDs: 100}, `
--memory 512M --memory-swap 512M --cpus 1.5 --pids-limit 100
memory.max "536870912" MemoryMax=536870912 @t 536870912
memory.swap.max "0" MemorySwapMax=0 @t 0
cpu.max "150000 100000" CPUQuota=150% @t 1500000
pids.max "100" TasksMax=100 @t 100
`},
		"the least, and not whole pages": {profiles.Resources{Memory: 16<<20 + 1, CPUs: 0.01, PIDs: 8}, `
--memory 16777217 --memory-swap 16777217 --cpus 0.01 --pids-limit 8
memory.max "16777216" MemoryMax=16777216 @t 16777216
memory.swap.max "0" MemorySwapMax=0 @t 0
cpu.max "1000 100000" CPUQuota=1% @t 10000
pids.max "8" TasksMax=8 @t 8
`},
		"a share that no binary fraction is": {profiles.Resources{CPUs: 0.29}, `
--cpus 0.29
memory.max "max" MemoryMax=infinity @t 18446744073709551615
memory.swap.max "max" MemorySwapMax=infinity @t 18446744073709551615
cpu.max "29000 100000" CPUQuota=29% @t 290000
pids.max "max" TasksMax=infinity @t 18446744073709551615
`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			if flags := apptainer.LimitFlags(test.limits); len(flags) > 0 {
				got.WriteString("\n" + strings.Join(flags, " "))
			}
			for _, m := range limitsOf(test.limits) {
				fmt.Fprintf(&got, "\n%s %q %s %s", m.File, m.text(), m.assignment(), m.property().Value)
			}
			testkit.WantText(t, got.String()+"\n", test.want)
		})
	}
}

func TestMissingControllers(t *testing.T) {
	all := profiles.Profile{File: "web.toml", Resources: profiles.Resources{Memory: 64 << 20, CPUs: 1, PIDs: 9}}
	tests := map[string]struct{ have, want string }{
		"all there":    {"cpuset cpu io memory pids", ""},
		"one is not":   {"cpu pids", `web.toml: resources.memory: there is no memory controller here: cgroup.controllers has "cpu pids"`},
		"none at all":  {"", noControllers},
		"not by parts": {"cpuset memory pids", `web.toml: resources.cpus: there is no cpu controller here: cgroup.controllers has "cpuset memory pids"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := missingControllers(all, strings.Fields(test.have))
			got := ""
			if err != nil {
				got = err.Error()
			}
			testkit.WantText(t, got, test.want)
			if err != nil && (!errors.Is(err, fault.ErrRefused) || fault.HintOf(err) == "") {
				t.Errorf("got hint %q of %v, want one of a refusal", fault.HintOf(err), err)
			}
		})
	}
	if err := missingControllers(profiles.Profile{}, nil); err != nil {
		t.Errorf("without limits: got %v", err)
	}
}

const noControllers = `web.toml: resources.memory: there is no memory controller here: cgroup.controllers has ""
web.toml: resources.cpus: there is no cpu controller here: cgroup.controllers has ""
web.toml: resources.pids: there is no pids controller here: cgroup.controllers has ""`

// limited returns a box with its cgroup's files in a directory.
func limited(t *testing.T, r profiles.Resources, files map[string]string) *box.Box {
	t.Helper()
	b := boxtest.Of("web", func(p *profiles.Profile) { p.Resources = r })
	b.Hash, b.Cgroup = b.Profile.Hash(), t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(b.Cgroup, name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// What is limited by somebody else is left alone, and so is a kernel without swap.
func TestLimitsDrift(t *testing.T) {
	b := limited(t, profiles.Resources{Memory: 32 << 20, CPUs: 2}, map[string]string{
		"memory.max": "max", "cpu.max": "200000 100000", "pids.max": "4",
	})
	got, err := Drift(b)
	testkit.WantText(t, strings.Join(got, "\n"), `resources.memory: memory.max is "max", not "33554432"`)
	if err != nil {
		t.Error(err)
	}
	for _, file := range []string{"memory.max", "cpu.max"} {
		if err := os.Remove(filepath.Join(b.Cgroup, file)); err != nil {
			t.Fatal(err)
		}
	}
	got, err = Drift(b)
	testkit.WantText(t, strings.Join(got, "\n"), `resources.memory: the box's cgroup has no memory.max
resources.cpus: the box's cgroup has no cpu.max`)
	if err != nil {
		t.Error(err)
	}
	b.Cgroup = ""
	got, err = Drift(b)
	testkit.WantText(t, strings.Join(got, "\n"), `resources: the box has no cgroup of its own`)
	if err != nil {
		t.Error(err)
	}
	if err := HoldAtStart(t.Context(), b); !errors.Is(err, fault.ErrRefused) {
		t.Errorf("got %v, want a refusal: the box cannot be limited", err)
	}
}

// A box stays the same box if only its limits are edited. The files of a cgroup other than a scope are written.
func TestLimitAnew(t *testing.T) {
	b := limited(t, profiles.Resources{Memory: 32 << 20, PIDs: 50}, map[string]string{
		"memory.max": "33554432", "memory.swap.max": "0", "pids.max": "50", "cpu.max": "max 100000",
	})
	l := &box.Store{Dir: t.TempDir()}
	now := b.Profile
	now.Resources = profiles.Resources{CPUs: 0.5}
	commands, err := Typed(l, b, now)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, strings.ReplaceAll(strings.Join(commands, "\n"), b.Cgroup, "CGROUP"), `echo max > CGROUP/memory.max
echo max > CGROUP/memory.swap.max
echo max > CGROUP/pids.max
echo '50000 100000' > CGROUP/cpu.max`)
	w, err := pendingOf(l, b, now)
	if err := errors.Join(err, w.apply(t.Context(), l, b, now.Hash())); err != nil {
		t.Fatal(err)
	}
	done := w.lines
	testkit.WantText(t, strings.Join(done, "\n"), `resources.memory: no limit any more, it was "33554432"
resources.pids: no limit any more, it was "50"
resources.cpus: cpu.max is "max 100000", not "50000 100000"`)
	var files []string
	for _, m := range limitsOf(profiles.Resources{}) {
		text, err := os.ReadFile(filepath.Join(b.Cgroup, m.File))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, m.File+" "+strings.TrimSpace(string(text)))
	}
	testkit.WantText(t, strings.Join(files, "\n"), `memory.max max
memory.swap.max max
cpu.max 50000 100000
pids.max max`)
	saved, err := l.Load("web")
	if err != nil {
		t.Fatal(err)
	}
	if saved.Hash != now.Hash() || saved.Profile.Resources != now.Resources {
		t.Errorf("saved: got %+v and hash %s, want %+v and %s", saved.Profile.Resources, saved.Hash, now.Resources, now.Hash())
	}
	if done, err = HoldAnew(t.Context(), l, b, now); len(done) > 0 || err != nil {
		t.Errorf("again: got %q and %v, want nothing", done, err)
	}
}

// Repair puts back the limits of the start, whatever the profile says by now, and nothing else.
func TestRepair(t *testing.T) {
	b := limited(t, profiles.Resources{PIDs: 50, CPUs: 2}, map[string]string{
		"pids.max": "max", "cpu.max": "200000 100000", "memory.max": "1048576",
	})
	for _, want := range []string{`resources.pids: pids.max is "max", not "50"`, ""} {
		got, err := Repair(t.Context(), b)
		testkit.WantText(t, strings.Join(got, "\n"), want)
		if err != nil {
			t.Error(err)
		}
	}
	for file, want := range map[string]string{"pids.max": "50", "cpu.max": "200000 100000\n", "memory.max": "1048576\n"} {
		text, err := os.ReadFile(filepath.Join(b.Cgroup, file))
		if err != nil {
			t.Fatal(err)
		}
		testkit.WantText(t, string(text), want)
	}
	if err := os.Remove(filepath.Join(b.Cgroup, "pids.max")); err != nil {
		t.Fatal(err)
	}
	got, err := Repair(t.Context(), b)
	testkit.WantText(t, strings.Join(got, "\n"), "resources.pids: the box's cgroup has no pids.max")
	if !errors.Is(err, fault.ErrRefused) {
		t.Errorf("without the controller: got %v, want a refusal", err)
	}
}

// A box without a cgroup of its own takes new limits with its next start only: until then the profile has changed.
func TestNewLimitsWithoutACgroup(t *testing.T) {
	b := limited(t, profiles.Resources{}, nil)
	b.Cgroup = ""
	l := &box.Store{Dir: t.TempDir()}
	now := b.Profile
	if !MadeOf(l, b, now) {
		t.Error("the profile of the start is another box")
	}
	now.Resources.PIDs = 50
	held, err := HoldAnew(t.Context(), l, b, now)
	if err != nil || len(held) > 0 || b.Profile.Resources.Limited() || MadeOf(l, b, now) {
		t.Errorf("got %q, %v and limits %+v, want another box by its profile", held, err, b.Profile.Resources)
	}
}

// If a profile differs in more than its limits, the running box keeps its limits.
func TestLimitAnewOfAnotherBox(t *testing.T) {
	b := limited(t, profiles.Resources{PIDs: 50}, map[string]string{"pids.max": "max"})
	l := &box.Store{Dir: t.TempDir()}
	now := b.Profile
	now.Image, now.Resources.PIDs = "/srv/other", 99
	done, err := HoldAnew(t.Context(), l, b, now)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, strings.Join(done, "\n"), `resources.pids: pids.max is "max", not "50"`)
	if MadeOf(l, b, now) {
		t.Error("another image passes for the same box")
	}
}

// A box without a cgroup of its own has no files for limits: there is nothing to type either.
func TestCommandsWithoutACgroup(t *testing.T) {
	b := limited(t, profiles.Resources{PIDs: 50}, nil)
	b.Cgroup = ""
	now := b.Profile
	now.Resources = profiles.Resources{}
	commands, err := Typed(&box.Store{Dir: t.TempDir()}, b, now)
	if len(commands) > 0 || err != nil {
		t.Errorf("got %q and %v, want nothing", commands, err)
	}
}

// The usage of a box is the usage of its whole cgroup. A value not counted by the host is 0.
func TestUsage(t *testing.T) {
	b := limited(t, profiles.Resources{}, map[string]string{
		"memory.current": "1048576", "pids.current": "12",
		"cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000",
	})
	if got, want := UsageOf(b), (Usage{Memory: 1 << 20, CPU: 1.5, Tasks: 12}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	b.Cgroup = t.TempDir()
	if got, want := UsageOf(b), (Usage{}); got != want {
		t.Errorf("without controllers: got %+v, want %+v", got, want)
	}
}
