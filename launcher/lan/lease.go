package lan

import (
	"context"
	"errors"
	"fmt"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
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
	return await(ctx, cancel, b, func() (bool, error) {
		err := Follow(s, k, b)
		if errors.Is(err, netsetup.ErrNoAddress) && !b.LANAddr().IsValid() {
			return false, err
		}
		return b.LANAddr().IsValid() || err != nil, err
	})
}

// await looks at first and after every change of addresses and default routes in a box, until a look is done, and returns the
// error of that look. When ctx ends, the error is the cause, and that of the last look. Where the kernel tells no more, await
// ends ctx by cancel.
func await(ctx context.Context, cancel context.CancelCauseFunc, b *box.Box, look func() (done bool, err error)) error {
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if err := lan.Changes(ctx, b.Init.PID, tell, cancel); err != nil {
		return err
	}
	for {
		done, err := look()
		if done {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// RouterPatience is how long FollowLate waits for a router. The DHCP client has the router's name by then.
const RouterPatience = time.Second

// FollowLate is Follow for what came behind the address for which AwaitLease has waited. Beside a bridge, where boxrun leads
// answers to the router of the LAN, a router is waited for, as a DHCP client sets the router when the address is there; a LAN
// may have none. Nothing is done for a box elsewhere, nor for one that has ended.
func FollowLate(ctx context.Context, s *box.Store, k *netsetup.Kernel, b *box.Box, patience time.Duration) error {
	if !b.OnLAN() || !b.Alive() {
		return nil
	}
	if b.OnBoth() && !b.Profile.Network.Address.IsValid() && b.LANAddr().IsValid() {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		timer := time.AfterFunc(patience, func() { cancel(errNoRouter) })
		defer timer.Stop()
		err := await(ctx, cancel, b, func() (bool, error) {
			has, err := lan.HasRouter(b.Init.PID, Device(b))
			return has || err != nil, err
		})
		if err != nil && !errors.Is(err, errNoRouter) {
			return files.IgnoreNotExist(err)
		}
	}
	return files.IgnoreNotExist(Follow(s, k, b))
}

// errNoRouter ends the wait for a router on a LAN without.
var errNoRouter = errors.New("no router")

// noLease is the error for a box without an address in time.
func noLease(b *box.Box, timeout time.Duration) error {
	return &fault.Problem{Kind: fault.ErrNotReady,
		Text: fmt.Sprintf("%s: not ready after %v: no DHCP client in the box has got an address of the LAN of %s", b.Name, timeout, b.Parent),
		Hint: fmt.Sprintf("\"boxrun exec %s -- ip addr show %s\" and \"boxrun logs %[1]s\" tell how far it is; or set network.address", b.Name, Device(b))}
}
