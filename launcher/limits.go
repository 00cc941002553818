package launcher

import (
	"context"
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

// limitsDrift gives all limits that are not in place.
func (b *Box) limitsDrift() ([]string, error) {
	if !b.Profile.Resources.Limited() {
		return nil, nil
	}
	if b.Cgroup == "" {
		return []string{"resources: the box has no cgroup of its own"}, nil
	}
	var lines []string
	for _, m := range limitsOf(b.Profile.Resources) {
		line, err := m.drift(b.Cgroup)
		if err != nil {
			return lines, err
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// holdToLimits puts the box's limits in place, and gives a line for each that was not. That one cannot be put in place
// is an error.
func (b *Box) holdToLimits(ctx context.Context) ([]string, error) {
	drift, err := b.limitsDrift()
	if err != nil || len(drift) == 0 {
		return nil, err
	}
	set := slices.DeleteFunc(limitsOf(b.Profile.Resources), func(m limit) bool { return !m.set() })
	if b.Cgroup != "" {
		err = b.setLimits(ctx, set)
	}
	if err != nil {
		return nil, err
	}
	left, err := b.limitsDrift()
	if err == nil && len(left) > 0 {
		err = refused("take the limit out of [resources]", "%s: limiting the box: %s", b.Name, strings.Join(left, "; "))
	}
	return drift, err
}

// setLimits sets limits of the box's cgroup: through the host's systemd where that made it, as it would write its own
// again at the next reload.
func (b *Box) setLimits(ctx context.Context, limits []limit) error {
	scope := b.scope()
	if scope == "" {
		return writeLimits(b.Cgroup, limits)
	}
	host, err := dialHost(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	properties := make([]systemdbus.Property, len(limits))
	for i, m := range limits {
		properties[i] = m.property()
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := host.conn.SetUnitPropertiesContext(ctx, scope, true, properties...); err != nil {
		return fmt.Errorf("limiting %s: %w", scope, err)
	}
	return nil
}

// scope gives the name of the box's scope, "" where its cgroup is no unit of a systemd.
func (b *Box) scope() string {
	name := filepath.Base(b.Cgroup)
	if !systemdHost() || !strings.HasSuffix(name, ".scope") {
		return ""
	}
	return name
}

// writeLimits writes limits to the files of a cgroup. A file that is not there is left to the next look.
func writeLimits(cgroup string, limits []limit) error {
	for _, m := range limits {
		f, err := os.OpenFile(filepath.Join(cgroup, m.File), os.O_WRONLY|os.O_TRUNC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("limiting the box: %w", err)
		}
		_, err = f.WriteString(m.text())
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("limiting the box: %w", err)
		}
	}
	return nil
}

// madeOf says whether the box is what it would be if it were started from p, but for its limits: those change while it runs.
func (b *Box) madeOf(p profiles.Profile) bool {
	p.Resources = b.Profile.Resources
	return b.Hash == p.Hash()
}

// limitAnew holds a running box to the limits of p, where p differs in nothing else from what the box was started with, and
// to its own where it does. It gives a line for each that was not in place.
func (l *Launcher) limitAnew(ctx context.Context, b *Box, p profiles.Profile) ([]string, error) {
	if !b.madeOf(p) || b.Hash == p.Hash() {
		return b.holdToLimits(ctx)
	}
	if err := refuseLimits(p); err != nil {
		return nil, err
	}
	return l.limitTo(ctx, b, p)
}

// limitTo takes the limits that p does not have from a running box, and holds it to those it has.
func (l *Launcher) limitTo(ctx context.Context, b *Box, p profiles.Profile) ([]string, error) {
	gone, lines := lifted(b.Profile.Resources, p.Resources)
	if len(gone) > 0 && b.Cgroup != "" {
		if err := b.setLimits(ctx, gone); err != nil {
			return nil, err
		}
	}
	b.Profile.Resources, b.Hash = p.Resources, p.Hash()
	if err := l.save(b); err != nil {
		return lines, err
	}
	set, err := b.holdToLimits(ctx)
	return append(lines, set...), err
}

// lifted gives the limits that old has and next has not, as none, and a line for each key.
func lifted(old, next profiles.Resources) (gone []limit, lines []string) {
	had := limitsOf(old)
	for i, m := range limitsOf(next) {
		if m.set() || !had[i].set() {
			continue
		}
		gone = append(gone, m)
		if !m.Optional {
			lines = append(lines, fmt.Sprintf("resources.%s: no limit any more, it was %q", m.Key, had[i].text()))
		}
	}
	return gone, lines
}

// limitsAhead says where the box's limits are not those of the profile as it is now, which up would put in place.
// nil stands for a profile that cannot be read.
func (b *Box) limitsAhead(now *profiles.Profile) ([]string, error) {
	if now == nil || !b.madeOf(*now) || b.Hash == now.Hash() {
		return b.limitsDrift()
	}
	_, lines := lifted(b.Profile.Resources, now.Resources)
	ahead := *b
	ahead.Profile.Resources = now.Resources
	set, err := ahead.limitsDrift()
	return append(lines, set...), err
}

// limitCommands gives what a person would type to have what limitAnew gives.
func (b *Box) limitCommands(p profiles.Profile) ([]string, error) {
	want := b.Profile.Resources
	var limits []limit
	if b.madeOf(p) {
		want = p.Resources
		limits, _ = lifted(b.Profile.Resources, want)
	}
	for _, m := range limitsOf(want) {
		line, err := m.drift(b.Cgroup)
		if err != nil {
			return nil, err
		}
		if line != "" {
			limits = append(limits, m)
		}
	}
	var lines []string
	for _, m := range limits {
		if scope := b.scope(); scope != "" {
			lines = append(lines, fmt.Sprintf("systemctl set-property --runtime %s %s", quote(scope), m.assignment()))
			continue
		}
		lines = append(lines, fmt.Sprintf("echo %s > %s", quote(m.text()), quote(filepath.Join(b.Cgroup, m.File))))
	}
	return lines, nil
}
