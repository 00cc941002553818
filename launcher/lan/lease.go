package lan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/say"
	"boxrun/netsetup"
	"boxrun/netsetup/lan"
)

// AwaitLease waits until a box without an address of its own has got one of IPv4, or of IPv6 on a LAN where the host has none
// of IPv4, and leads the host there; live is told of the wait. The error is ErrNotReady where the DHCP client of the box has
// none in time, ErrNotStarted where the box's init ends, and the cause when ctx ends.
func AwaitLease(ctx context.Context, s *box.Store, k *netsetup.Kernel, b *box.Box, timeout time.Duration, live func(string)) error {
	if !b.OnLAN() || b.LANAddr().IsValid() {
		return nil
	}
	parent, err := lan.LookParent(b.Parent)
	if err != nil {
		return err
	}
	onSix := len(parent.Of(netip.IPv4Unspecified())) == 0
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
		has := b.LANAddr().IsValid() || onSix && len(b.LAN6) > 0
		return has || err != nil && !errors.Is(err, netsetup.ErrNoAddress), err
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

// Patience is how long FollowLate waits.
type Patience struct {
	Router    time.Duration // for a router: a DHCP client sets the router when the address is there, and a LAN may have none
	Detection time.Duration // for the kernel's detection of duplicates, which takes two seconds at most
}

// Usual is the patience of an up.
func Usual() Patience { return Patience{Router: time.Second, Detection: 3 * time.Second} }

// FollowLate is Follow for what came behind the address for which AwaitLease has waited. Beside a bridge, where boxrun leads
// answers to the router of the LAN, a router is waited for. Everywhere the detection of duplicates of an IPv6 address that the
// box has just learnt is waited for. Nothing is done for a box elsewhere, nor for one that has ended.
func FollowLate(ctx context.Context, s *box.Store, k *netsetup.Kernel, b *box.Box, p Patience) error {
	if !b.OnLAN() || !b.Alive() {
		return nil
	}
	var err error
	if b.OnBoth() && !b.Profile.Network.Address.IsValid() && b.LANAddr().IsValid() {
		err = awaitFor(ctx, b, p.Router, func() (bool, error) { return lan.HasRouter(b.Init.PID, Device(b)) })
	}
	if err == nil {
		err = awaitFor(ctx, b, p.Detection, func() (bool, error) {
			detects, err := lan.Detects(b.Init.PID, Device(b))
			return !detects, err
		})
	}
	if err == nil {
		err = Follow(s, k, b)
	}
	return files.IgnoreNotExist(err)
}

// errLate ends a wait in vain.
var errLate = errors.New("not in time")

// awaitFor is await with a patience. A wait in vain is no error.
func awaitFor(ctx context.Context, b *box.Box, patience time.Duration, look func() (bool, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(patience, func() { cancel(errLate) })
	defer timer.Stop()
	err := await(ctx, cancel, b, func() (bool, error) {
		done, err := look()
		return done || err != nil, err
	})
	if errors.Is(err, errLate) {
		return nil
	}
	return err
}

// noLease is the error for a box without an address in time.
func noLease(b *box.Box, timeout time.Duration) error {
	return &fault.Problem{Kind: fault.ErrNotReady,
		Text: fmt.Sprintf("%s: not ready after %v: no DHCP client in the box has got an address of the LAN of %s", b.Name, timeout, b.Parent),
		Hint: fmt.Sprintf("\"boxrun exec %s -- ip addr show %s\" and \"boxrun logs %[1]s\" tell how far it is; or set network.address", b.Name, Device(b))}
}
