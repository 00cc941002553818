package limits

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

// Drift returns a line for each limit of the box's profile not in place, or a single line if the box has no
// cgroup of its own.
func Drift(b *box.Box) ([]string, error) {
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

// HoldAtStart makes sure of the limits given to Apptainer at the start. Apptainer does not pass a swap limit of 0 on
// to systemd, and systemd would lift this limit the next time it writes the scope's files.
func HoldAtStart(ctx context.Context, b *box.Box) error {
	if b.Profile.Resources.Limited() && scope(b) != "" {
		if err := setLimits(ctx, b, ownLimits(b)); err != nil {
			return err
		}
	}
	_, err := holdToLimits(ctx, b)
	return err
}

// ownLimits returns the limits set by the box's profile.
func ownLimits(b *box.Box) []limit {
	return slices.DeleteFunc(limitsOf(b.Profile.Resources), func(m limit) bool { return !m.set() })
}

// holdToLimits puts the box's limits in place and returns a line for each limit found out of place. A limit still out
// of place afterwards is an error, of kind ErrRefused. A box without its own cgroup has every limit out of place.
func holdToLimits(ctx context.Context, b *box.Box) ([]string, error) {
	drift, err := Drift(b)
	if err != nil || len(drift) == 0 {
		return nil, err
	}
	if b.Cgroup != "" {
		err = setLimits(ctx, b, ownLimits(b))
	}
	if err != nil {
		return nil, err
	}
	left, err := Drift(b)
	if err == nil && len(left) > 0 {
		err = fault.Refused("take the limit out of [resources]", "%s: limiting the box: %s", b.Name, strings.Join(left, "; "))
	}
	return drift, err
}

// setLimits sets limits of the box's cgroup. If the host's systemd made the cgroup, setLimits asks systemd: after a
// direct write, systemd would write its own values back at the next reload. Without systemd, setLimits writes the
// cgroup's files.
func setLimits(ctx context.Context, b *box.Box, limits []limit) error {
	scope := scope(b)
	if scope == "" {
		return writeLimits(b.Cgroup, limits)
	}
	host, err := units.Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	properties := make([]systemdbus.Property, len(limits))
	for i, m := range limits {
		properties[i] = m.property()
	}
	return fault.Wrap("limiting "+scope, host.Ask(ctx, func(ctx context.Context) error {
		return host.Conn.SetUnitPropertiesContext(ctx, scope, true, properties...)
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

// MadeOf reports whether starting the box from p would give the same box, apart from its limits: limits can change
// while the box runs.
func MadeOf(s *box.Store, b *box.Box, p profiles.Profile) bool {
	p.Resources = b.Profile.Resources
	return b.Hash == p.Hash() && !conf.ChangedEnvironment(s, p)
}

// HoldAnew puts the limits of p on a running box if p differs from the profile the box was started with in nothing but
// limits. Otherwise HoldAnew restores the box's own limits. It returns a line for each limit found out of place.
func HoldAnew(ctx context.Context, s *box.Store, b *box.Box, p profiles.Profile) ([]string, error) {
	if !MadeOf(s, b, p) || b.Hash == p.Hash() {
		return holdToLimits(ctx, b)
	}
	if err := Refuse(p); err != nil {
		return nil, err
	}
	return limitTo(ctx, s, b, p)
}

// limitTo lifts the limits absent from p from a running box, and puts the limits of p in place.
func limitTo(ctx context.Context, s *box.Store, b *box.Box, p profiles.Profile) ([]string, error) {
	gone, lines := lifted(b.Profile.Resources, p.Resources)
	if len(gone) > 0 && b.Cgroup != "" {
		if err := setLimits(ctx, b, gone); err != nil {
			return nil, err
		}
	}
	b.Profile.Resources, b.Hash = p.Resources, p.Hash()
	if err := s.Save(b); err != nil {
		return lines, err
	}
	set, err := holdToLimits(ctx, b)
	return append(lines, set...), err
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

// Ahead returns a line for each limit the next up would put in place on the box. now is the profile as it is now;
// nil if the profile cannot be read. If now differs in more than limits, or is nil, the box's own limits count, as for
// HoldAnew.
func Ahead(s *box.Store, b *box.Box, now *profiles.Profile) ([]string, error) {
	if now == nil || !MadeOf(s, b, *now) || b.Hash == now.Hash() {
		return Drift(b)
	}
	_, lines := lifted(b.Profile.Resources, now.Resources)
	ahead := *b
	ahead.Profile.Resources = now.Resources
	set, err := Drift(&ahead)
	return append(lines, set...), err
}

// StartCommands returns the commands to type in place of HoldAtStart; nil without limits or without systemd on
// the host. The name of the scope has the PID of the box's init.
func StartCommands(b *box.Box) []string {
	if !b.Profile.Resources.Limited() || !units.Booted() {
		return nil
	}
	line := fmt.Sprintf("systemctl set-property --runtime apptainer-$(jq .pid %s).scope", files.Quote(b.Record))
	for _, m := range ownLimits(b) {
		line += " " + m.assignment()
	}
	return []string{line}
}

// Commands returns the commands to type in place of HoldAnew, for a running box: systemctl for a scope, otherwise
// writes to the cgroup's files.
func Commands(s *box.Store, b *box.Box, p profiles.Profile) ([]string, error) {
	want := b.Profile.Resources
	var limits []limit
	if MadeOf(s, b, p) {
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
		if scope := scope(b); scope != "" {
			lines = append(lines, fmt.Sprintf("systemctl set-property --runtime %s %s", files.Quote(scope), m.assignment()))
			continue
		}
		lines = append(lines, fmt.Sprintf("echo %s > %s", files.Quote(m.text()), files.Quote(filepath.Join(b.Cgroup, m.File))))
	}
	return lines, nil
}
