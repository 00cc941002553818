package limits

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

	"boxrun/launcher/fault"
	"boxrun/launcher/process"
	"boxrun/netsetup/small"
	"boxrun/profiles"
)

// A box is limited by its own cgroup. The limits hold for the services of the box, its init, and commands run in the
// box from outside. Apptainer gets the limits at the start and has set them when init begins. Later changes go through
// the host's systemd, which has the cgroup as a scope. On a host without systemd, boxrun writes the cgroup's files.

// limit is a limiting file of a box's cgroup, with the equivalent property of the box's scope.
type limit struct {
	Key        string // key in [resources]
	Controller string
	File       string
	Value      uint64 // math.MaxUint64: no limit
	Property   string
	Optional   bool // kernels without swap have no such file, and need none
}

// cpuPeriod is the kernel's and systemd's usual period for counting a box's share of the CPU.
const cpuPeriod = 100_000 // microseconds

// limitsOf returns all limits boxrun knows. Limits absent from r have the value "no limit".
func limitsOf(r profiles.Resources) []limit {
	const none = uint64(math.MaxUint64)
	memory, swap, cpu, tasks := none, none, none, none
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

// set reports whether there is a limit at all.
func (m limit) set() bool { return m.Value != math.MaxUint64 }

// text returns the content of the limit's file.
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

// property returns the limit as a property of the scope. systemd counts time per second, the kernel per period.
func (m limit) property() systemdbus.Property {
	value := m.Value
	if m.Controller == "cpu" && m.set() {
		value *= 1_000_000 / cpuPeriod
	}
	return systemdbus.Property{Name: m.Property, Value: dbus.MakeVariant(value)}
}

// assignment returns the property in the syntax of systemctl set-property.
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

// drift describes a difference between the cgroup and the limit. drift returns "" if the cgroup has the limit, and also
// if there is no limit: a value the profile does not limit is not boxrun's.
func (m limit) drift(cgroup string) (string, error) {
	if !m.set() {
		return "", nil
	}
	text, err := small.Read(filepath.Join(cgroup, m.File))
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

// Refuse refuses a profile with limits if the host lacks cgroups of the second version or a controller needed.
func Refuse(p profiles.Profile) error {
	if !p.Resources.Limited() {
		return nil
	}
	if !process.UnifiedCgroups() {
		return fault.Refused(process.UnifiedHint+", or take [resources] out",
			"%s: resources: limits need cgroups of the second version alone, and this host has version 1 or a mixture", p.File)
	}
	text, err := os.ReadFile(filepath.Join(process.CgroupMount(), "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("looking for the controllers of cgroups: %w", err)
	}
	return missingControllers(p, strings.Fields(string(text)))
}

// missingControllers returns ErrRefused for each controller needed by the profile but missing from have.
func missingControllers(p profiles.Profile, have []string) error {
	var errs []error
	for _, m := range limitsOf(p.Resources) {
		if !m.set() || m.Optional || slices.Contains(have, m.Controller) {
			continue
		}
		errs = append(errs, fault.Refused(
			"take resources."+m.Key+" out, or have the kernel, or what this host runs in, hand the controller down",
			"%s: resources.%s: there is no %s controller here: cgroup.controllers has %q",
			p.File, m.Key, m.Controller, strings.Join(have, " ")))
	}
	return errors.Join(errs...)
}
