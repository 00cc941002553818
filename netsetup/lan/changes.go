package lan

import (
	"context"
	"fmt"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// news are the addresses and routes that the kernel has told of, and the flags of the addresses. Of what a router advertises
// the kernel tells again with every advertisement.
type news map[string]int

// manyNews is more than the addresses of a box. Beyond, all are forgotten: each is told of once more.
const manyNews = 1000

// is reports whether what the kernel tells of a thing, which comes or stays, or goes, is a change.
func (n news) is(thing string, flags int, goes bool) bool {
	before, known := n[thing]
	if goes {
		delete(n, thing)
		return true
	}
	if len(n) > manyNews {
		clear(n)
	}
	n[thing] = flags
	return !known || before != flags
}

// addr reports whether an update of an address tells of a change.
func (n news) addr(a netlink.AddrUpdate) bool {
	return n.is(fmt.Sprint(a.LinkIndex, " ", a.LinkAddress.String()), a.Flags, !a.NewAddr)
}

// route reports whether an update of a default route tells of a change.
func (n news) route(r netlink.RouteUpdate) bool {
	return n.is(fmt.Sprint(r.Family, r.Table, r.LinkIndex, r.Priority, r.Gw), 0, r.Type == unix.RTM_DELROUTE)
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
				if seen.addr(a) {
					changed()
				}
			}
		}()
		err = netlink.RouteSubscribeWithOptions(routes, ctx.Done(), netlink.RouteSubscribeOptions{Namespace: &ns, ErrorCallback: fails})
		if err != nil {
			return struct{}{}, waiting(err)
		}
		go func() {
			seen := news{}
			for r := range routes {
				if dump.PrefixOf(r.Dst).Bits() <= 0 && seen.route(r) {
					changed()
				}
			}
		}()
		return struct{}{}, nil
	})
	return err
}
