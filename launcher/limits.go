package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"boxrun/profiles"
)

// A box is limited by the cgroup that it has to itself: the limits hold for its services, for its init, and for what is
// run in it from outside. Apptainer is told of them at the start, and has set them when init begins. Later they are
// changed by the host's systemd, whose scope the cgroup is, or by a write to its files where there is no systemd.

// limit is one file of a box's cgroup that holds it to something, and the property of its scope that says the same.
type limit struct {
	Key        string // of [resources]
	Controller string
	File       string
	Value      uint64 // math.MaxUint64: no limit
	Property   string
	Optional   bool // kernels without swap have no file for it, and need none
}

// cpuPeriod is what the kernel and systemd have for the length of time over which a box's share is counted.
const cpuPeriod = 100_000 // microseconds

// limitsOf gives all limits that boxrun knows, those that r says nothing of as none.
func limitsOf(r profiles.Resources) []limit {
	memory, swap, cpu, tasks := uint64(math.MaxUint64), uint64(math.MaxUint64), uint64(math.MaxUint64), uint64(math.MaxUint64)
	if r.Memory > 0 {
		page := uint64(os.Getpagesize())
		memory, swap = uint64(r.Memory)/page*page, 0 // the kernel counts whole pages
	}
	if r.CPUs > 0 {
		cpu = uint64(math.Round(r.CPUs*100)) * cpuPeriod / 100
	}
	if r.PIDs > 0 {
		tasks = uint64(r.PIDs)
	}
	return []limit{
		{Key: "memory", Controller: "memory", File: "memory.max", Value: memory, Property: "MemoryMax"},
		{Key: "memory", Controller: "memory", File: "memory.swap.max", Value: swap, Property: "MemorySwapMax", Optional: true},
		{Key: "cpus", Controller: "cpu", File: "cpu.max", Value: cpu, Property: "CPUQuotaPerSecUSec"},
		{Key: "pids", Controller: "pids", File: "pids.max", Value: tasks, Property: "TasksMax"},
	}
}

// set says whether there is a limit at all.
func (m limit) set() bool { return m.Value != math.MaxUint64 }

// text gives what the file holds.
func (m limit) text() string {
	number := "max"
	if m.set() {
		number = strconv.FormatUint(m.Value, 10)
	}
	if m.Controller == "cpu" {
		return fmt.Sprintf("%s %d", number, cpuPeriod)
	}
	return number
}

// property gives the scope's property. systemd has time per second, the kernel per period.
func (m limit) property() systemdbus.Property {
	value := m.Value
	if m.Controller == "cpu" && m.set() {
		value *= 1_000_000 / cpuPeriod
	}
	return systemdbus.Property{Name: m.Property, Value: dbus.MakeVariant(value)}
}

// assignment gives the property as systemctl set-property takes it.
func (m limit) assignment() string {
	switch {
	case !m.set() && m.Controller == "cpu":
		return "CPUQuota="
	case !m.set():
		return m.Property + "=infinity"
	case m.Controller == "cpu":
		return fmt.Sprintf("CPUQuota=%d%%", m.Value*100/cpuPeriod)
	}
	return fmt.Sprintf("%s=%d", m.Property, m.Value)
}

// drift says where the cgroup has something else; "" where it is as it should be, and where there is no limit: what the
// profile does not limit is not boxrun's.
func (m limit) drift(cgroup string) (string, error) {
	if !m.set() {
		return "", nil
	}
	text, err := os.ReadFile(filepath.Join(cgroup, m.File))
	switch got := strings.TrimSpace(string(text)); {
	case errors.Is(err, fs.ErrNotExist) && m.Optional:
		return "", nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("resources.%s: the box's cgroup has no %s", m.Key, m.File), nil
	case err != nil:
		return "", fmt.Errorf("reading the limits of a box: %w", err)
	case got != m.text():
		return fmt.Sprintf("resources.%s: %s is %q, not %q", m.Key, m.File, got, m.text()), nil
	}
	return "", nil
}

// limitFlags gives what Apptainer is told at the start.
func limitFlags(r profiles.Resources) []string {
	var flags []string
	if r.Memory > 0 {
		// Memory and swap together, as Apptainer counts: none is left for swap.
		flags = append(flags, "--memory", r.Memory.String(), "--memory-swap", r.Memory.String())
	}
	if r.CPUs > 0 {
		flags = append(flags, "--cpus", strconv.FormatFloat(r.CPUs, 'f', -1, 64))
	}
	if r.PIDs > 0 {
		flags = append(flags, "--pids-limit", strconv.Itoa(r.PIDs))
	}
	return flags
}

// tasksConf gives a drop-in of systemd's system.conf for a box that is limited: its systemd would hold every unit, and what
// is run from outside with init, to 15% of what the box may have.
func tasksConf() string {
	return "# Written by boxrun: [resources] pids of the profile holds for the whole box.\n[Manager]\nDefaultTasksMax=infinity\n"
}

// refuseLimits wants the controllers that the profile's limits need.
func refuseLimits(p profiles.Profile) error {
	if !p.Resources.Limited() {
		return nil
	}
	mount := cgroupMount()
	if mount == "" {
		return refused("boot the host with systemd.unified_cgroup_hierarchy=1, or take [resources] out",
			"%s: resources: limits need cgroups of the second version, and none are mounted here", p.File)
	}
	text, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("looking for the controllers of cgroups: %w", err)
	}
	return missingControllers(p, strings.Fields(string(text)))
}

// missingControllers names the controllers that the profile needs beside those there are.
func missingControllers(p profiles.Profile, have []string) error {
	var errs []error
	for _, m := range limitsOf(p.Resources) {
		if !m.set() || m.Optional || slices.Contains(have, m.Controller) {
			continue
		}
		errs = append(errs, refused("take resources."+m.Key+" out, or have the kernel, or what this host runs in, hand the controller down",
			"%s: resources.%s: there is no %s controller here: cgroup.controllers has %q",
			p.File, m.Key, m.Controller, strings.Join(have, " ")))
	}
	return errors.Join(errs...)
}
