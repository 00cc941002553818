package testhost

import (
	"context"
	_ "embed" // for the script
)

//go:embed vm.finish.sh
var vmFinish string

// vmRecipe is the host with a kernel of its own, in /boot/vmlinuz.
func vmRecipe() recipe {
	r := hostRecipe()
	r.name = "vm"
	r.finish += vmFinish
	return r
}

// VMRoots gives the directories of the root file systems that a virtual machine's disk is made of, building them where
// they are not cached: that of the host with a kernel in /boot/vmlinuz, and that of the systemd and nginx box. Both are
// for many to read: they may not be written to.
func VMRoots(ctx context.Context, progress func(string)) (host, web string, err error) {
	if host, err = vmRecipe().ensure(ctx, progress); err != nil {
		return "", "", err
	}
	web, err = webRecipe().ensure(ctx, progress)
	return host, web, err
}
