package launcher

import (
	"context"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/units"
)

// run starts argv as a service of the host's systemd, so that the box outlives the session. argv is started as a
// child of boxrun where boxrun itself runs in such a service, where the host has no systemd, and, with a warning,
// where systemd cannot start the service. The command is killed when ctx ends.
func (l *Launcher) run(ctx context.Context, b *box.Box, argv []string) (*apptainer.Command, error) {
	path, err := apptainer.Look()
	if err != nil {
		return nil, err
	}
	c := startCommandOf(b)
	if b.Unit != "" && b.Unit != units.OwnUnit() {
		err := units.Run(ctx, l.Store, b, c, append([]string{path}, argv[1:]...))
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		l.Notef("%s: warning: it will end with this session: %v", b.Name, err)
		b.Unit = ""
	}
	return c, c.Run(ctx, l.Home, path, argv)
}

// startCommandOf returns the command that starts a box, which does not run yet.
func startCommandOf(b *box.Box) *apptainer.Command {
	return apptainer.NewCommand(b.Name, b.Profile.Image, b.Log, b.LogFrom, units.BootTimeout(b.Profile))
}
