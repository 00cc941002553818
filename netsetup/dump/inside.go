package dump

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// LookInto calls do with the network namespace of a process and a netlink handle of the namespace, and returns what do
// has seen. For a process that is gone the error wraps os.ErrNotExist.
func LookInto[T any](pid int, do func(ns netns.NsHandle, h *netlink.Handle) (T, error)) (seen T, err error) {
	ns, err := Namespace(pid)
	if err != nil {
		return seen, err
	}
	defer func() { _ = ns.Close() }()
	h, err := Open(ns)
	if err != nil {
		return seen, fmt.Errorf("entering the network of process %d: %w", pid, err)
	}
	defer h.Close()
	return do(ns, h)
}

// Namespace opens the network namespace of a process. For a process that is gone, or a zombie, the error wraps
// os.ErrNotExist.
func Namespace(pid int) (netns.NsHandle, error) {
	ns, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/ns/net", pid))
	if errors.Is(err, unix.ESRCH) {
		err = os.ErrNotExist
	}
	if err != nil {
		return netns.None(), fmt.Errorf("opening the network of process %d: %w", pid, err)
	}
	return ns, nil
}
