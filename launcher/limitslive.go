package launcher

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

	"boxrun/profiles"
)

// limitsDrift returns a line for each limit of the box's profile not in place, or a single line if the box has no
// cgroup of its own.
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

// limitAtStart makes sure of the limits given to Apptainer at the start. Apptainer does not pass a swap limit of 0 on
// to systemd, and systemd would lift this limit the next time it writes the scope's files.
func (b *Box) limitAtStart(ctx context.Context) error {
	if b.Profile.Resources.Limited() && b.scope() != "" {
		if err := b.setLimits(ctx, b.ownLimits()); err != nil {
			return err
		}
	}
	_, err := b.holdToLimits(ctx)
	return err
}

// ownLimits returns the limits set by the box's profile.
func (b *Box) ownLimits() []limit {
	return slices.DeleteFunc(limitsOf(b.Profile.Resources), func(m limit) bool { return !m.set() })
}

// holdToLimits puts the box's limits in place and returns a line for each limit found out of place. A limit still out
// of place afterwards is an error, of kind ErrRefused. A box without its own cgroup has every limit out of place.
func (b *Box) holdToLimits(ctx context.Context) ([]string, error) {
	drift, err := b.limitsDrift()
	if err != nil || len(drift) == 0 {
		return nil, err
	}
	if b.Cgroup != "" {
		err = b.setLimits(ctx, b.ownLimits())
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

// setLimits sets limits of the box's cgroup. If the host's systemd made the cgroup, setLimits asks systemd: after a
// direct write, systemd would write its own values back at the next reload. Without systemd, setLimits writes the
// cgroup's files.
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
	return wrap("limiting "+scope, host.ask(ctx, func(ctx context.Context) error {
		return host.conn.SetUnitPropertiesContext(ctx, scope, true, properties...)
	}))
}

// scope returns the name of the box's scope; "" if the box's cgroup is not a unit of systemd.
func (b *Box) scope() string {
	name := filepath.Base(b.Cgroup)
	if !systemdHost() || !strings.HasSuffix(name, ".scope") {
		return ""
	}
	return name
}

// writeLimits writes limits to the files of a cgroup. Missing files are skipped; the next limitsDrift finds them.
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

// madeOf reports whether starting the box from p would give the same box, apart from its limits: limits can change
// while the box runs.
func (s *Store) madeOf(b *Box, p profiles.Profile) bool {
	p.Resources = b.Profile.Resources
	return b.Hash == p.Hash() && !s.changedEnvironment(p)
}

// limitAnew puts the limits of p on a running box if p differs from the profile the box was started with in nothing but
// limits. Otherwise limitAnew restores the box's own limits. It returns a line for each limit found out of place.
func (s *Store) limitAnew(ctx context.Context, b *Box, p profiles.Profile) ([]string, error) {
	if !s.madeOf(b, p) || b.Hash == p.Hash() {
		return b.holdToLimits(ctx)
	}
	if err := refuseLimits(p); err != nil {
		return nil, err
	}
	return s.limitTo(ctx, b, p)
}

// limitTo lifts the limits absent from p from a running box, and puts the limits of p in place.
func (s *Store) limitTo(ctx context.Context, b *Box, p profiles.Profile) ([]string, error) {
	gone, lines := lifted(b.Profile.Resources, p.Resources)
	if len(gone) > 0 && b.Cgroup != "" {
		if err := b.setLimits(ctx, gone); err != nil {
			return nil, err
		}
	}
	b.Profile.Resources, b.Hash = p.Resources, p.Hash()
	if err := s.save(b); err != nil {
		return lines, err
	}
	set, err := b.holdToLimits(ctx)
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

// limitsAhead returns a line for each limit the next up would put in place on the box. now is the profile as it is now;
// nil if the profile cannot be read. If now differs in more than limits, or is nil, the box's own limits count, as for
// limitAnew.
func (s *Store) limitsAhead(b *Box, now *profiles.Profile) ([]string, error) {
	if now == nil || !s.madeOf(b, *now) || b.Hash == now.Hash() {
		return b.limitsDrift()
	}
	_, lines := lifted(b.Profile.Resources, now.Resources)
	ahead := *b
	ahead.Profile.Resources = now.Resources
	set, err := ahead.limitsDrift()
	return append(lines, set...), err
}

// startLimitCommands returns the commands to type in place of limitAtStart; nil without limits or without systemd on
// the host. The name of the scope has the PID of the box's init.
func (b *Box) startLimitCommands() []string {
	if !b.Profile.Resources.Limited() || !systemdHost() {
		return nil
	}
	line := fmt.Sprintf("systemctl set-property --runtime apptainer-$(jq .pid %s).scope", quote(b.Record))
	for _, m := range b.ownLimits() {
		line += " " + m.assignment()
	}
	return []string{line}
}

// limitCommands returns the commands to type in place of limitAnew, for a running box: systemctl for a scope, otherwise
// writes to the cgroup's files.
func (s *Store) limitCommands(b *Box, p profiles.Profile) ([]string, error) {
	want := b.Profile.Resources
	var limits []limit
	if s.madeOf(b, p) {
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
