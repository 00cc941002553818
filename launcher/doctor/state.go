package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/health"
	"boxrun/launcher/list"
	"boxrun/launcher/undone"
)

// boxState looks at a box as a whole, by what ps, status, diff and up go by.
type boxState struct {
	l *launcher.Launcher
	*box.Box
	now func(context.Context, *box.Box) launcher.Now // of Subject
}

// list returns the looks at a box as a whole: how it is, which takes as long as status may, and whether it is as its profile
// says by now.
func (b boxState) list() []look {
	looks := []look{one(b.Name, "state", b.state)}
	looks[0].patience = b.Profile.Health.Timeout + 2*time.Second
	if undone.Any(b.l.Store) && b.Alive() {
		looks = append(looks, look{area: b.Name, name: "undone", run: b.undone})
	}
	if b.now != nil && b.Alive() {
		looks = append(looks, look{area: b.Name, name: "profile", run: b.profile})
	}
	return looks
}

// state says how the box is, in the word of status --check, and in what state the systemd in the box is.
func (b boxState) state(ctx context.Context) Check {
	f, err := b.l.Check(ctx, b.Name, 0)
	if err != nil {
		return broken(err)
	}
	if unread := b.l.Unread(); f.Word() == health.Drifted && len(unread) > 0 { // what others need counts, and is not known
		return skip("there is a box that cannot be read: %s", unread[0])
	}
	switch f.Word() {
	case box.Crashed:
		return fail("it does not run, or was left half started or half stopped", "boxrun up "+b.Name, "%s", f.String())
	case health.Busy, health.Down, health.NotReady:
		return warn("it may be starting, or another boxrun works on it", "boxrun up "+b.Name, "%s", f.String())
	case string(health.Unhealthy):
		return fail("what [ready] of its profile asks for was there, and is not", "boxrun logs "+b.Name, "%s", f.String())
	case health.Drifted:
		return fail("what is out of place on the host may cut it off", "boxrun up "+b.Name, "%s", f.String())
	case health.Degraded:
		return warn("a service that failed answers nobody", fmt.Sprintf("boxrun logs %s -u %s", b.Name, append(f.Failed, f.Ended...)[0]), "%s, %s", f.Systemd, f.Why())
	}
	if found, well := map[string]string{"none": "running, without a systemd", "running": "running"}[f.Systemd]; well {
		return pass("%s", found)
	}
	return warn("services may not have started yet", "boxrun up "+b.Name, "its systemd is %s", f.Systemd)
}

// undone says what others undo again and again after the watch has put it back.
func (b boxState) undone(context.Context) []Check {
	return list.Map(undone.Lines(b.l.Store, b.Name, time.Now()), func(line string) Check {
		return warn("boxrun puts it back after pauses of up to a minute: have that program leave it alone", "", "%s", line)
	})
}

// profile says whether the box is as its profile says by now, and whether up would take the profile.
func (b boxState) profile(ctx context.Context) []Check {
	const why = "the next start of the box, as after a reboot, is refused"
	now := b.now(ctx, b.Box)
	if now.Unread != nil {
		return failures(now.Unread, why)
	}
	if err := b.l.RefuseHere(ctx, now.Profile); err != nil {
		return failures(err, why)
	}
	c := launcher.ChangesOf(ctx, b.l.Store, b.Box, now)
	switch words := strings.Join(c.Words(), ", "); {
	case words == "":
		return []Check{pass("as at the start of the box")}
	case words == "profile" && c.Live():
		return []Check{warn("an up brings that to the box while it runs", "boxrun up "+b.Name, "%s changed since the start", c.Profile)}
	default:
		return []Check{warn("the box runs as it was started", "boxrun up --replace "+b.Name, "%s changed since the start", words)}
	}
}
