package testhost

import (
	"context"
	_ "embed" // for the script
)

//go:embed vm.finish.sh
var vmFinish string

// VMRoots returns the directories of the root file systems for the disk of a virtual machine: the host, with a kernel
// in /boot/vmlinuz, and the systemd and nginx box. A root that is not cached is built first. Others read the
// directories too, so the caller must not write there.
func VMRoots(ctx context.Context, progress func(string)) (host, web string, err error) {
	r := hostRecipe()
	r.name = "vm"
	r.finish += vmFinish
	return roots(ctx, r, progress)
}
