package testhost

import (
	"context"
	_ "embed"
)

// PostgresImage is where a host has the root of the systemd and PostgreSQL box, once it was added.
const PostgresImage = "/srv/postgres"

//go:embed postgres.finish.sh
var postgresFinish string

// postgresRecipe is a box with a database: Debian 12 with systemd and PostgreSQL 15. It asks systemd-resolved for
// names.
func postgresRecipe() recipe {
	return recipe{
		name: "postgres", suite: "bookworm",
		packages: "systemd,systemd-sysv,dbus,iproute2,procps,postgresql,systemd-resolved,libnss-resolve,libnss-myhostname",
		finish:   postgresFinish,
	}
}

// AddPostgres puts PostgresImage on the host's disk, building it first where it is not cached.
func (h *Host) AddPostgres(ctx context.Context, progress func(string)) error {
	root, err := postgresRecipe().ensure(ctx, progress)
	if err != nil {
		return err
	}
	return h.CopyTree(root, PostgresImage)
}
