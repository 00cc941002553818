package lan

import (
	"context"
	"fmt"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Changes calls changed after every change of addresses in the network of a process, until ctx ends, and failed where the
// kernel tells no more. When Changes returns, no later change is missed. The kernel keeps the network of an ended process
// until ctx ends. The error is os.ErrNotExist where there is no such process.
func Changes(ctx context.Context, pid int, changed func(), failed func(error)) error {
	_, err := dump.LookInto(pid, func(ns netns.NsHandle, _ *netlink.Handle) (struct{}, error) {
		updates := make(chan netlink.AddrUpdate)
		err := netlink.AddrSubscribeWithOptions(updates, ctx.Done(), netlink.AddrSubscribeOptions{Namespace: &ns, ErrorCallback: func(err error) {
			if ctx.Err() == nil {
				failed(fmt.Errorf("waiting for addresses in the network of process %d: %w", pid, err))
			}
		}})
		if err != nil {
			return struct{}{}, fmt.Errorf("waiting for addresses in the network of process %d: %w", pid, err)
		}
		go func() {
			for range updates {
				changed()
			}
		}()
		return struct{}{}, nil
	})
	return err
}
