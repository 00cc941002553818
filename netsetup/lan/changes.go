package lan

import (
	"context"
	"fmt"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Changes calls changed after every change of addresses and of default routes in the network of a process, until ctx ends,
// and failed where the kernel tells no more. When Changes returns, no later change is missed. The kernel keeps the network of
// an ended process until ctx ends. The error is os.ErrNotExist where there is no such process.
func Changes(ctx context.Context, pid int, changed func(), failed func(error)) error {
	waiting := func(err error) error {
		return fmt.Errorf("waiting for addresses in the network of process %d: %w", pid, err)
	}
	fails := func(err error) {
		if ctx.Err() == nil {
			failed(waiting(err))
		}
	}
	_, err := dump.LookInto(pid, func(ns netns.NsHandle, _ *netlink.Handle) (struct{}, error) {
		addrs, routes := make(chan netlink.AddrUpdate), make(chan netlink.RouteUpdate)
		err := netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{Namespace: &ns, ErrorCallback: fails})
		if err != nil {
			return struct{}{}, waiting(err)
		}
		go func() {
			for range addrs {
				changed()
			}
		}()
		err = netlink.RouteSubscribeWithOptions(routes, ctx.Done(), netlink.RouteSubscribeOptions{Namespace: &ns, ErrorCallback: fails})
		if err != nil {
			return struct{}{}, waiting(err)
		}
		go func() {
			for r := range routes {
				if dump.PrefixOf(r.Dst).Bits() <= 0 {
					changed()
				}
			}
		}()
		return struct{}{}, nil
	})
	return err
}
