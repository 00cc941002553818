package testhost

import (
	"context"
	_ "embed"
)

// ServicesImage is the root of a box with many services on a host, after AddServices.
const ServicesImage = "/srv/services"

//go:embed services.finish.sh
var servicesFinish string

// servicesRecipe makes a box with what people run: two databases, sshd with sessions of users, munge, mail.
func servicesRecipe() recipe {
	return recipe{
		name: "services", suite: "bookworm",
		packages: "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,iproute2,procps,mariadb-server,postgresql," +
			"openssh-server,openssh-client,munge,postfix",
		finish: servicesFinish,
	}
}

// AddServices copies the root of the box to ServicesImage on the host. A root that is not cached is built first.
func (h *Host) AddServices(ctx context.Context, progress func(string)) error {
	root, err := servicesRecipe().ensure(ctx, progress)
	if err != nil {
		return err
	}
	return h.CopyTree(root, ServicesImage)
}
