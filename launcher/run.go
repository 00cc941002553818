package launcher

import (
	"context"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/units"
)

// run starts Apptainer as a service of the host's systemd, so that the box outlives the session. If boxrun itself runs
// in the box's service, or there is no systemd, Apptainer is a child of boxrun. run returns the service around
// Apptainer, "" for none. The command is killed when ctx ends.
func (l *Launcher) run(ctx context.Context, w wanted) (c *apptainer.Command, unit string, err error) {
	b := w.box
	c = apptainer.NewCommand(b.Name, b.Profile.Image, b.Log, b.LogFrom, units.BootTimeout(b.Profile))
	unit = b.Unit
	if unit != "" && unit != l.Caller.Unit {
		err := units.Run(ctx, l.Store, b, c, w.service(), w.env)
		if err == nil || ctx.Err() != nil {
			return c, unit, err
		}
		l.Notef("%s: warning: it will end with this session: %v", b.Name, err)
		unit = ""
	}
	return c, unit, c.Run(ctx, w.env, w.apptainer, w.argv)
}
