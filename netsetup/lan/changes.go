package lan

import (
	"context"
	"fmt"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// news are the addresses that the kernel has told of, with their flags. Of an address that a router advertises the kernel
// tells again with every advertisement.
type news map[string]int

// manyNews is more than the addresses of a box. Beyond, all are forgotten: each is told of once more.
const manyNews = 1000

// is reports whether an update tells of a change.
func (n news) is(a netlink.AddrUpdate) bool {
	key := fmt.Sprint(a.LinkIndex, " ", a.LinkAddress.String())
	before, known := n[key]
	if !a.NewAddr {
		delete(n, key)
		return true
	}
	if len(n) > manyNews {
		clear(n)
	}
	n[key] = a.Flags
	return !known || before != a.Flags
}

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
			seen := news{}
			for a := range addrs {
				if seen.is(a) {
					changed()
				}
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
