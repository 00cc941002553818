package launcher

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/guest"
	"boxrun/launcher/network"
	"boxrun/launcher/timing"
	"boxrun/launcher/units"
)

// Stretches of an up that those of others begin after.
const (
	laid  = "laid the network, wrote files"
	asked = "asked for Apptainer"
)

// timed returns where the time of an up went, with what others did meanwhile. What nobody tells is left out.
func (u *upRun) timed(ctx context.Context, up Up) *timing.Times {
	t, b := u.times, up.Box
	if !up.Started {
		return t
	}
	begin := t.LastDone(asked)
	if b.Unit != "" {
		began := timing.OnClock(unix.CLOCK_MONOTONIC, units.StartedAt(ctx, b.Unit))
		t.Add("systemd", "started the service around Apptainer", t.LastDone(laid), began)
		begin = began
	}
	boot := bootTimes(ctx, b)
	at := func(d time.Duration) time.Time { return timing.OnClock(unix.CLOCK_MONOTONIC, d) }
	leased := u.leasedAt(b)
	t.Add("Apptainer", "image, namespaces, the network (CNI)", begin, leased)
	t.Add("Apptainer", "mounts; boxrun as first process confined the box", cmp.Or(leased, begin), at(boot.Began))
	for _, s := range []struct {
		what       string
		begin, end time.Duration
	}{
		{"began", boot.Began, boot.GeneratorsBegan}, {"ran its generators", boot.GeneratorsBegan, boot.GeneratorsDone},
		{"loaded its units", boot.GeneratorsDone, boot.UnitsLoaded}, {"started its units", boot.UnitsLoaded, boot.Finished},
	} {
		t.Add("the box's systemd", s.what, at(s.begin), at(s.end))
	}
	return t
}

// leasedAt returns when the CNI plugin host-local gave the box its address.
func (l *Launcher) leasedAt(b *box.Box) time.Time {
	if !b.Bridged() {
		return time.Time{}
	}
	info, err := os.Stat(filepath.Join(l.Path("leases"), network.Of(l.Store, b).Name(), b.Addr.String()))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// bootTimes returns when the box's systemd booted; zero for another init, which has nothing to tell.
func bootTimes(ctx context.Context, b *box.Box) (boot guest.BootTimes) {
	s, err := guest.Dial(ctx, b.Init.PID)
	if err != nil {
		return boot
	}
	defer s.Close()
	boot, _ = s.BootTimes(ctx)
	return boot
}
