package health

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
)

// Services returns the cgroups of the services to miss when they are gone: of the wanted units those that have processes now,
// and those of before. Each is relative to the cgroup of the box. Services outside system.slice are not among them.
func Services(b *box.Box, wanted, before []string) []string {
	var cgroups []string
	for _, unit := range wanted {
		cgroup := cgroupOf(b, unit)
		if i := slices.IndexFunc(before, func(c string) bool { return path.Base(c) == unit }); cgroup == "" && i >= 0 {
			cgroup = before[i]
		}
		if cgroup != "" && len(cgroups) < mostServices {
			cgroups = append(cgroups, cgroup)
		}
	}
	return cgroups
}

// mostServices limits what a box can have ps look for.
const mostServices = 64

// cgroupOf returns the cgroup of a service in system.slice, relative to the cgroup of the box; "" for a service without
// processes. systemd gives the instances of a template a slice of their own.
func cgroupOf(b *box.Box, unit string) string {
	if !strings.HasSuffix(unit, ".service") || b.Cgroup == "" || strings.Contains(unit, "/") {
		return ""
	}
	cgroup := path.Join("system.slice", unit)
	if template, _, is := strings.Cut(unit, "@"); is {
		cgroup = path.Join("system.slice", "system-"+strings.ReplaceAll(template, "-", `\x2d`)+".slice", unit)
	}
	if !files.Exists(filepath.Join(b.Cgroup, cgroup)) {
		return ""
	}
	return cgroup
}

// Ended returns the names of services whose cgroups are gone. systemd removes a cgroup with the last process of the service.
// The host's files alone are read: a box cannot hold the look up, and everybody may look.
func Ended(b *box.Box, services []string) []string {
	var ended []string
	for _, cgroup := range services {
		if !files.Exists(filepath.Join(b.Cgroup, cgroup)) {
			ended = append(ended, path.Base(cgroup))
		}
	}
	return ended
}
