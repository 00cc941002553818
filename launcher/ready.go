package launcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/enter"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/list"
	"boxrun/launcher/say"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/sockets"
)

// await waits until the box is ready, and stores in up which units failed at boot, and which are enabled. A box that is not
// ready in time stays up; the error is then ErrNotReady.
func (l *Launcher) await(ctx context.Context, b *box.Box, timeout time.Duration, up *Up) error {
	want := b.Profile.Ready
	addr, err := b.ReadyAddr()
	if err != nil {
		return err
	}
	r := guest.Readiness{
		Init: b.Init, Addr: addr, Timeout: timeout,
		Units: want.Units, TCP: want.TCP, HTTP: want.HTTP, Live: l.Live, Tail: l.tailOf(b),
	}
	booted, err := r.Wait(ctx)
	up.Failed, up.wanted = booted.Failed, booted.Wanted
	if other := guest.OtherInit(b.Init); other != "" && !box.IsHello(b.Profile.Image) {
		l.Notef("%s: %s", b.Name, other)
	}
	var late *guest.NotReady
	switch {
	case err == nil && up.Started:
		return awaitHello(ctx, b)
	case !errors.As(err, &late):
		return err
	}
	up.Failed = late.Failed
	return &fault.Problem{Kind: fault.ErrNotReady, Text: b.Name + ": " + late.Error(),
		Hint: fmt.Sprintf("the box stays up, to be looked at: \"boxrun shell %s\", \"boxrun logs %s\"", b.Name, b.Name)}
}

// helloPatience is how long a hello box may take until somebody listens on its port 80. The box's init does so at once.
const helloPatience = 2 * time.Second

// awaitHello waits until a hello box serves its page, which people ask for as soon as up returns. In the host's network
// another program may have the port, and a box may have no room for a page: up ends all the same, and the box's log tells.
func awaitHello(ctx context.Context, b *box.Box) error {
	if !box.IsHello(b.Profile.Image) {
		return nil
	}
	late := time.After(helloPatience)
	for {
		var waiting []sockets.Socket
		err := dump.InNetworkOf(b.Init.PID, func() (err error) {
			waiting, err = sockets.Waiting("tcp")
			return err
		})
		if err != nil || slices.ContainsFunc(waiting, func(s sockets.Socket) bool { return s.Port == 80 }) {
			return files.IgnoreNotExist(err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late:
			return nil
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// tailTimeout limits how long reading the journal of a single unit may take.
const tailTimeout = 5 * time.Second

// tailOf returns a function for reading the last n lines of a unit's journal in the box. Where the journal cannot be
// read, the function returns the reason as the only line: the failed unit is reported all the same.
func (l *Launcher) tailOf(b *box.Box) func(context.Context, string, int) []string {
	return func(ctx context.Context, unit string, n int) []string {
		ctx, cancel := context.WithTimeout(ctx, tailTimeout)
		defer cancel()
		var out say.Head
		_, err := enter.RefOf(l.Store, b).Run(ctx, enter.Command{
			Argv:   []string{"journalctl", "--no-pager", "-q", "-o", "cat", "-n", strconv.Itoa(n), "-u", unit},
			Stdout: &out, Stderr: &out,
		})
		if err != nil {
			return []string{err.Error()}
		}
		said := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
		return list.Map(said[:min(len(said), n)], say.Plain)
	}
}
