package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// SelfTest examines the host with a temporary box of hello, the built-in profile. The box has an unused name and an
// unused host port, and is on a bridge of existing boxes, if there are any. The last check says whether the box could
// be removed again. Where the box does not come up, the checks are those of the host and the reason.
func SelfTest(ctx context.Context, l *launcher.Launcher, hello profiles.Profile) ([]Check, error) {
	p, err := selfProfile(ctx, l, hello)
	if err != nil {
		return nil, err
	}
	_, err = l.Up(ctx, p, launcher.UpOptions{})
	if err != nil && !errors.Is(err, fault.ErrNotReady) {
		return notUp(ctx, l, p, err)
	}
	checks, err := Examine(ctx, l, Subject{Name: p.Name})
	_, down := l.Down(context.WithoutCancel(ctx), p.Name, nil)
	c := pass("stopped, and taken away")
	if down != nil {
		c = fail("the host has what is left of it", "boxrun down "+p.Name, "%v", down)
	}
	return append(checks, c.in(p.Name, "down")), err
}

// notUp returns the checks of the host, and a check for each reason why the box did not come up.
func notUp(ctx context.Context, l *launcher.Launcher, p profiles.Profile, cause error) ([]Check, error) {
	f, err := newFacts(l)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	f.boxes = box.Without(f.boxes, p.Name)
	checks := run(ctx, sharedLooks(f))
	for _, c := range failures(cause, "no box works here, then") {
		checks = append(checks, c.in(p.Name, "up"))
	}
	return checks, nil
}

// selfProfile returns the profile hello with a name, a port and a network that fit this host.
func selfProfile(ctx context.Context, l *launcher.Launcher, hello profiles.Profile) (profiles.Profile, error) {
	boxes, boxesErr := l.All()
	free, err := freePort(ctx)
	if err := cmp.Or(boxesErr, err); err != nil {
		return hello, err
	}
	p := hello
	p.Name = fmt.Sprintf("selftest-%d", os.Getpid())
	p.Hostname = p.Name
	p.Network.Ports = []port.Port{{Host: free, Container: 80, Count: 1, Proto: "tcp"}}
	p.Ready.Hint = ""
	for _, b := range boxes {
		if n := b.Profile.Network; b.Bridged() {
			p.Network.Bridge, p.Network.Subnet, p.Network.MTU = n.Bridge, n.Subnet, n.MTU
			p.Network.Offload, p.Network.Marks = n.Offload, n.Marks
		}
	}
	return p, nil
}

// freePort returns a tcp port of the host with no listener. The kernel chooses the port.
func freePort(ctx context.Context) (uint16, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", "0.0.0.0:0")
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	defer l.Close()
	addr, err := netip.ParseAddrPort(l.Addr().String())
	return addr.Port(), err
}
