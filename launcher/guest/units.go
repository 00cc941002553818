package guest

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"boxrun/launcher/say"
)

// Unit is a unit of a box's systemd.
type Unit struct {
	Name        string
	Description string
}

// Units returns the units with the load state "loaded", sorted by name. systemd also lists units that do not exist,
// known only from dependencies of others.
func (s *Systemd) Units(ctx context.Context) ([]Unit, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	list, err := s.conn.ListUnitsContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the box's systemd for its units: %w", err)
	}
	var units []Unit
	for _, u := range list {
		if u.LoadState == "loaded" {
			units = append(units, Unit{say.Printable(u.Name), say.Printable(u.Description)})
		}
	}
	slices.SortFunc(units, func(a, b Unit) int { return cmp.Compare(a.Name, b.Name) })
	return units, nil
}
