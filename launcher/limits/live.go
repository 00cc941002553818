package limits

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/list"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

// Drift returns a line for each limit of the box's profile not in place, or a single line if the box has no
// cgroup of its own.
func Drift(b *box.Box) ([]string, error) {
	_, lines, err := drifted(b.Cgroup, b.Profile.Resources)
	return lines, err
}

// drifted returns the limits of r missing from a cgroup, with a line for each. For a box without a cgroup of its own
// there is nothing to set, and a single line.
func drifted(cgroup string, r profiles.Resources) (limits []limit, lines []string, err error) {
	if cgroup == "" && r.Limited() {
		return nil, []string{"resources: the box has no cgroup of its own"}, nil
	}
	for _, m := range limitsOf(r) {
		line, err := m.drift(cgroup)
		if err != nil {
			return limits, lines, err
		}
		if line != "" {
			limits, lines = append(limits, m), append(lines, line)
		}
	}
	return limits, lines, nil
}

// HoldAtStart makes sure of the limits given to Apptainer at the start. Apptainer does not pass a swap limit of 0 on
// to systemd, and systemd would lift this limit the next time it writes the scope's files. The error is ErrRefused if a
// limit is not in place afterwards.
func HoldAtStart(ctx context.Context, b *box.Box) error {
	if err := setLimits(ctx, b, ownLimits(b)); err != nil {
		return err
	}
	return refuseDrift(b)
}

// refuseDrift returns ErrRefused for a box with limits out of place.
func refuseDrift(b *box.Box) error {
	left, err := Drift(b)
	if err == nil && len(left) > 0 {
		err = fault.Refused("take the limit out of [resources]", "%s: limiting the box: %s", b.Name, strings.Join(left, "; "))
	}
	return err
}

// ownLimits returns the limits set by the box's profile.
func ownLimits(b *box.Box) []limit {
	return slices.DeleteFunc(limitsOf(b.Profile.Resources), func(m limit) bool { return !m.set() })
}

// setLimits sets limits of the box's cgroup. If the host's systemd made the cgroup, setLimits asks systemd: after a
// direct write, systemd would write its own values back at the next reload. Without systemd, setLimits writes the
// cgroup's files. A box without a cgroup of its own is left alone.
func setLimits(ctx context.Context, b *box.Box, limits []limit) error {
	if b.Cgroup == "" || len(limits) == 0 {
		return nil
	}
	scope := scope(b)
	if scope == "" {
		return writeLimits(b.Cgroup, limits)
	}
	host, err := units.Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	properties := list.Map(limits, limit.property)
	return fault.Wrap("limiting "+scope, host.Ask(ctx, func(ctx context.Context) error {
		return host.SetUnitPropertiesContext(ctx, scope, true, properties...)
	}))
}

// scope returns the name of the box's scope; "" if the box's cgroup is not a unit of systemd.
func scope(b *box.Box) string {
	name := filepath.Base(b.Cgroup)
	if !units.Booted() || !strings.HasSuffix(name, ".scope") {
		return ""
	}
	return name
}

// writeLimits writes limits to the files of a cgroup. Missing files are skipped; the next Drift finds them.
func writeLimits(cgroup string, limits []limit) error {
	for _, m := range limits {
		err := files.WriteExisting(filepath.Join(cgroup, m.File), m.text())
		if err := files.IgnoreNotExist(err); err != nil {
			return fmt.Errorf("limiting the box: %w", err)
		}
	}
	return nil
}

// MadeOf reports whether starting the box from p would give the same box, apart from what an up changes while the box runs:
// the limits of a box with a cgroup of its own, the published ports, and who may reach them.
func MadeOf(s *box.Store, b *box.Box, p profiles.Profile) bool {
	if b.Cgroup != "" {
		p.Resources = b.Profile.Resources
	}
	p.Network.Ports, p.Network.AllowFrom = b.Profile.Network.Ports, b.Profile.Network.AllowFrom
	return b.Hash == p.Hash() && !conf.ChangedEnvironment(s, p)
}

// pending is what the next up does about the limits of a running box.
type pending struct {
	want   profiles.Resources
	limits []limit  // to set: the limits out of place, and first the limits to lift
	lines  []string // what is to be done, for a person
}

// pendingOf returns what there is to do for the profile as it is now. If the profile differs from the profile of the start
// in nothing but what an up changes, the box gets the new limits. Otherwise the box keeps its own.
func pendingOf(s *box.Store, b *box.Box, now profiles.Profile) (pending, error) {
	w := pending{want: b.Profile.Resources}
	if MadeOf(s, b, now) {
		w.want = now.Resources
		w.limits, w.lines = lifted(b.Profile.Resources, w.want)
	}
	limits, lines, err := drifted(b.Cgroup, w.want)
	w.limits, w.lines = append(w.limits, limits...), append(w.lines, lines...)
	return w, err
}

// apply sets the pending limits, and saves new limits with hash, the hash of the profile with these limits. The error
// is ErrRefused if a limit is not in place afterwards.
func (w pending) apply(ctx context.Context, s *box.Store, b *box.Box, hash string) error {
	if err := setLimits(ctx, b, w.limits); err != nil {
		return err
	}
	if w.want != b.Profile.Resources {
		b.Profile.Resources, b.Hash = w.want, hash
		if err := s.Save(b); err != nil {
			return err
		}
	}
	return refuseDrift(b)
}

// HoldAnew puts the limits in place that a running box should have by the profile p: see pendingOf. HoldAnew returns a
// line for each limit found out of place or lifted.
func HoldAnew(ctx context.Context, s *box.Store, b *box.Box, p profiles.Profile) ([]string, error) {
	w, err := pendingOf(s, b, p)
	if err != nil {
		return nil, err
	}
	if w.want != b.Profile.Resources {
		if err := Refuse(p); err != nil {
			return nil, err
		}
	}
	return w.lines, w.apply(ctx, s, b, p.Hash())
}

// Repair puts back the limits that a running box has by the profile of its start, and returns the lines of Drift. The error
// is ErrRefused if a limit is not in place afterwards.
func Repair(ctx context.Context, b *box.Box) ([]string, error) {
	gone, lines, err := drifted(b.Cgroup, b.Profile.Resources)
	if err != nil || len(lines) == 0 {
		return nil, err
	}
	return lines, cmp.Or(setLimits(ctx, b, gone), refuseDrift(b))
}

// lifted returns the limits set by old but not by next, with the value "no limit", and a line for each key.
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

// TypedAtStart returns what a person types in place of HoldAtStart; nil without limits or without systemd on
// the host. The name of the scope has the PID of the box's init.
func TypedAtStart(b *box.Box) []string {
	if !b.Profile.Resources.Limited() || !units.Booted() {
		return nil
	}
	assignments := strings.Join(list.Map(ownLimits(b), limit.assignment), " ")
	return []string{fmt.Sprintf("systemctl set-property --runtime apptainer-$(jq .pid %s).scope %s",
		files.Quote(b.Record), assignments)}
}

// Typed returns what a person types in place of HoldAnew, for a running box: systemctl for a scope, otherwise
// writes to the cgroup's files.
func Typed(s *box.Store, b *box.Box, p profiles.Profile) ([]string, error) {
	w, err := pendingOf(s, b, p)
	if err != nil || b.Cgroup == "" { // without a cgroup there is nothing to set
		return nil, err
	}
	scope := scope(b)
	return list.Map(w.limits, func(m limit) string {
		if scope != "" {
			return fmt.Sprintf("systemctl set-property --runtime %s %s", files.Quote(scope), m.assignment())
		}
		return fmt.Sprintf("echo %s > %s", files.Quote(m.text()), files.Quote(filepath.Join(b.Cgroup, m.File)))
	}), nil
}
