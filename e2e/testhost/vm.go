package testhost

import (
	"context"
	_ "embed" // for the script
)

//go:embed vm.finish.sh
var vmFinish string

// vmRecipe makes the host with a kernel of its own, in /boot/vmlinuz.
func vmRecipe() recipe {
	r := hostRecipe()
	r.name = "vm"
	r.finish += vmFinish
	return r
}

// VMRoots returns the directories of the root file systems for the disk of a virtual machine: the host, with a kernel
// in /boot/vmlinuz, and the systemd and nginx box. A root that is not cached is built first. Others read the
// directories too, so the caller must not write there.
func VMRoots(ctx context.Context, progress func(string)) (host, web string, err error) {
	if host, err = vmRecipe().ensure(ctx, progress); err != nil {
		return "", "", err
	}
	web, err = webRecipe().ensure(ctx, progress)
	return host, web, err
}
