package lan

import (
	"context"
	"errors"
	"fmt"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/say"
	"boxrun/netsetup"
	"boxrun/netsetup/lan"
)

// AwaitLease waits until a box without an address of its own has got one, and leads the host there; live is told of the
// wait. The error is ErrNotReady where the DHCP client of the box has none in time, ErrNotStarted where the box's init ends,
// and the cause when ctx ends.
func AwaitLease(ctx context.Context, s *box.Store, k *netsetup.Kernel, b *box.Box, timeout time.Duration, live func(string)) error {
	if !b.OnLAN() || b.LANAddr().IsValid() {
		return nil
	}
	told := say.NewLive(live)
	defer told.End()
	told.Say("waiting for an address of the LAN of " + b.Parent)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(timeout, func() { cancel(noLease(b, timeout)) })
	defer timer.Stop()
	go func() {
		if b.Init.Wait(ctx) == nil {
			cancel(&fault.Problem{Kind: fault.ErrNotStarted, Text: "the box's init ended while boxrun waited for the address of the box"})
		}
	}()
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if err := lan.Changes(ctx, b.Init.PID, tell, func(err error) { cancel(err) }); err != nil {
		return err
	}
	for {
		err := Follow(s, k, b)
		if b.LANAddr().IsValid() || err != nil && !errors.Is(err, netsetup.ErrNoAddress) {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// noLease is the error for a box without an address in time.
func noLease(b *box.Box, timeout time.Duration) error {
	return &fault.Problem{Kind: fault.ErrNotReady,
		Text: fmt.Sprintf("%s: not ready after %v: no DHCP client in the box has got an address of the LAN of %s", b.Name, timeout, b.Parent),
		Hint: fmt.Sprintf("\"boxrun exec %s -- ip addr show %s\" and \"boxrun logs %[1]s\" tell how far it is; or set network.address", b.Name, Device(b))}
}
