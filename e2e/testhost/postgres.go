package testhost

import (
	"context"
	_ "embed"
)

// PostgresImage is the root of the systemd and PostgreSQL box on a host, after AddPostgres.
const PostgresImage = "/srv/postgres"

//go:embed postgres.finish.sh
var postgresFinish string

// postgresRecipe makes a box with a database: Debian 12 with systemd and PostgreSQL 15. The box asks systemd-resolved
// for names.
func postgresRecipe() recipe {
	return recipe{
		name: "postgres", suite: "bookworm",
		packages: "systemd,systemd-sysv,dbus,iproute2,procps,postgresql,systemd-resolved,libnss-resolve,libnss-myhostname",
		finish:   postgresFinish,
	}
}

// SharedPostgresImage is the root of the box with the database in a cluster, after SharePostgres.
const SharedPostgresImage = SharedDir + "/postgres"

// SharePostgres copies the root of the box to SharedPostgresImage, for all hosts of a cluster. A root that is not cached is
// built first.
func (h *Host) SharePostgres(ctx context.Context, progress func(string)) error {
	root, err := postgresRecipe().ensure(ctx, progress)
	if err != nil {
		return err
	}
	return run("cp", "-aT", root, h.Shared("postgres"))
}

// AddPostgres copies the root of the box to PostgresImage on the host. A root that is not cached is built first.
func (h *Host) AddPostgres(ctx context.Context, progress func(string)) error {
	root, err := postgresRecipe().ensure(ctx, progress)
	if err != nil {
		return err
	}
	return h.CopyTree(root, PostgresImage)
}
