package dump

import (
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// InEach calls do for the network namespace of each process, on a thread in the network, with a netlink handle of the
// network. Each network is entered once. The processors share the work, and so do is called by several goroutines at
// once; i is the place of the process in pids. InEach returns an error for each process, that of do or that of the way
// into the network: for a process that is gone the error wraps os.ErrNotExist.
func InEach(pids []int, do func(i int, ns netns.NsHandle, h *netlink.Handle) error) []error {
	errs := make([]error, len(pids))
	workers := min(runtime.GOMAXPROCS(0), len(pids))
	var all sync.WaitGroup
	for first := range workers {
		all.Go(func() {
			_, err := InThread(func() (struct{}, error) {
				for i := first; i < len(pids); i += workers {
					errs[i] = visit(pids[i], func(ns netns.NsHandle, h *netlink.Handle) error { return do(i, ns, h) })
				}
				return struct{}{}, nil
			})
			for i := first; err != nil && i < len(pids); i += workers {
				errs[i] = err
			}
		})
	}
	all.Wait()
	return errs
}

// visit takes the thread into the network of a process, and leaves the thread there.
func visit(pid int, do func(ns netns.NsHandle, h *netlink.Handle) error) error {
	ns, err := Namespace(pid)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if err := netns.Set(ns); err != nil {
		return entering(err)
	}
	h, err := Kept()
	if err != nil {
		return err
	}
	defer h.Close()
	return do(ns, h)
}
