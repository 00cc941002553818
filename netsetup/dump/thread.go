package dump

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netns"
)

// DialIn connects from the network ns, by a socket opened on a thread there. The address is IP:PORT. For an address in
// numbers the library asks nobody and starts no goroutine.
func DialIn(ctx context.Context, ns netns.NsHandle, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, err
	}
	return InNetwork(ns, func() (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, address) })
}

// InNetwork runs do on a thread in the network ns.
func InNetwork[T any](ns netns.NsHandle, do func() (T, error)) (T, error) {
	return InThread(func() (made T, err error) {
		if err := netns.Set(ns); err != nil {
			return made, entering(err)
		}
		return do()
	})
}

// InNetworkOf runs do in the network of a process: sockets opened by do, and /proc/sys/net as read by do, belong to
// the network. Other goroutines started by do are not in the network.
func InNetworkOf(pid int, do func() error) error {
	ns, err := Namespace(pid)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	_, err = InNetwork(ns, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// DialFrom connects from the network of a process. The address is IP:PORT.
func DialFrom(ctx context.Context, pid int, network, address string) (net.Conn, error) {
	ns, err := Namespace(pid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	return DialIn(ctx, ns, network, address)
}

func entering(err error) error { return fmt.Errorf("entering a network namespace: %w", err) }

// InThread runs do on a thread of its own and puts the thread back into the caller's network. Where putting back
// fails, the thread stays locked and ends with its goroutine.
func InThread[T any](do func() (T, error)) (made T, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var own netns.NsHandle
		if own, err = netns.Get(); err != nil {
			runtime.UnlockOSThread()
			return
		}
		made, err = do()
		if netns.Set(own) == nil {
			runtime.UnlockOSThread()
		}
		_ = own.Close()
	}()
	<-done
	return made, err
}
