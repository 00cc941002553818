package testhost

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
)

//go:embed inits.finish.sh
var initsFinish string

// An otherInit is an init that Debian has beside systemd, with the packages that make it the init of a root.
type otherInit struct{ name, packages string }

// otherInits returns the inits of Debian's unstable suite, which alone has openrc-init, by their executables. sysvinit is
// there with the scripts of Debian, and with OpenRC for them.
func otherInits() []otherInit {
	return []otherInit{
		{"init", "sysvinit-core,sysv-rc"},
		{"init-openrc", "sysvinit-core,openrc"},
		{"openrc-init", "openrc-init"},
		{"runit", "runit-init"},
		{"finit", "finit-sysv"},
		{"busybox", "busybox"},
		{"s6-svscan", "s6"},
	}
}

// InitImage returns where AddInit puts the root of a box with the named init.
func InitImage(name string) string { return "/srv/" + name }

// initRecipe makes a box with the init, which runs the service /usr/local/bin/serve.
func initRecipe(i otherInit) recipe {
	base := recipe{name: "inits", suite: "sid", packages: "iproute2,procps"}
	return recipe{name: i.name, suite: base.suite, base: &base, packages: i.packages, finish: "set -- \"$1\" " + i.name + "\n" + initsFinish}
}

// AddInit copies the root of a box with the named init to InitImage on the host. A root that is not cached is built first.
func (h *Host) AddInit(ctx context.Context, name string, progress func(string)) error {
	n := slices.IndexFunc(otherInits(), func(i otherInit) bool { return i.name == name })
	if n < 0 {
		return errors.New("no such init: " + name)
	}
	root, err := initRecipe(otherInits()[n]).ensure(ctx, progress)
	if err != nil {
		return fmt.Errorf("the root of %s: %w", name, err)
	}
	return h.CopyTree(root, InitImage(name))
}
