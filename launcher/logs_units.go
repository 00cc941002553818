package launcher

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Unit is a unit of a box's systemd.
type Unit struct {
	Name        string
	Description string
}

// Units returns the units loaded by a box's systemd, sorted by name: only these can have written log lines. Error:
// ErrNotFound if the box is not up.
func (store *Store) Units(ctx context.Context, name string) ([]Unit, error) {
	b, err := store.find(name)
	if err != nil {
		return nil, err
	}
	if !b.alive() {
		return nil, notUp(b)
	}
	s, err := dialSystemd(ctx, b.Init.PID)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Units(ctx)
}

// Units returns the units with the load state "loaded", sorted by name. systemd also lists units that do not exist,
// known only from dependencies of others.
func (s *systemd) Units(ctx context.Context) ([]Unit, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := s.conn.ListUnitsContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the box's systemd for its units: %w", err)
	}
	var units []Unit
	for _, u := range list {
		if u.LoadState == "loaded" {
			units = append(units, Unit{printable(u.Name), printable(u.Description)})
		}
	}
	slices.SortFunc(units, func(a, b Unit) int { return cmp.Compare(a.Name, b.Name) })
	return units, nil
}
