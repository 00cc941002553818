package units

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"

	"boxrun/launcher/fault"
	"boxrun/launcher/process"
)

// SweepScopes stops the scopes of Apptainer without a process, and has systemd forget those that failed. A start that is killed
// may have asked systemd for the scope of its box just before: systemd then makes a scope for a process that is dead, and no
// end of a process ends the scope. The job for the scope may also wait still, and would fail when its turn comes.
func SweepScopes(ctx context.Context) error {
	if !Booted() {
		return nil
	}
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	return host.Ask(ctx, func(ctx context.Context) error {
		scopes, err := host.ListUnitsByPatternsContext(ctx, nil, []string{"apptainer-*.scope"})
		errs := []error{err}
		for _, scope := range scopes {
			if host.isDeserted(ctx, scope) {
				_, err := host.StopUnitContext(ctx, scope.Name, "replace", nil)
				errs = append(errs, ignoreNoUnit(err), ignoreNoUnit(host.ResetFailedUnitContext(ctx, scope.Name)))
			}
		}
		return fault.Wrap("stopping scopes that a killed start left", errors.Join(errs...))
	})
}

// isDeserted reports whether the process that a scope was made for, whose number is in the scope's name, is gone, and no other
// process is in the scope.
func (h *Host) isDeserted(ctx context.Context, scope systemdbus.UnitStatus) bool {
	number := strings.TrimSuffix(strings.TrimPrefix(scope.Name, "apptainer-"), ".scope")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return false
	}
	if _, err := process.Open(pid); err == nil {
		return false
	}
	p, err := h.GetUnitTypePropertyContext(ctx, scope.Name, "Scope", "ControlGroup")
	if err != nil {
		return false
	}
	cgroup, _ := p.Value.Value().(string)
	return cgroup == "" || !process.Populated(filepath.Join(process.CgroupMount(), cgroup))
}
