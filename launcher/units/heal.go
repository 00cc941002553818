package units

import (
	"context"
	"errors"
)

// StopHealing stops the services that put rules back.
func (h *Host) StopHealing(ctx context.Context) error {
	var errs []error
	for _, unit := range HealingUnits() {
		errs = append(errs, h.stopUnit(ctx, unit).wait(ctx))
	}
	return errors.Join(errs...)
}
