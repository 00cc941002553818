package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"boxrun/netsetup/led"
)

// watchIPsec tells of changes of the policies of IPsec, which take packets of boxes or block them. A kernel that has not loaded
// what answers for IPsec has no policies, and to ask would load that: there the watch hears first of the module.
func watchIPsec(ctx context.Context, w *watcher) error {
	there, err := led.AnswersIPsec()
	if err != nil {
		return fmt.Errorf("waiting for policies of IPsec: %w", err)
	}
	if there {
		return w.subscribe(ctx, unix.NETLINK_XFRM, ofPolicies, xfrmPolicies)
	}
	return w.awaitEvent(ctx, "add@/module/xfrm_user", func(lost bool) error {
		defer w.tell() // policies may have come with the module
		if lost {
			return watchIPsec(ctx, w)
		}
		return w.subscribe(ctx, unix.NETLINK_XFRM, ofPolicies, xfrmPolicies)
	})
}

// xfrmPolicies is XFRMNLGRP_POLICY of linux/xfrm.h.
const xfrmPolicies = 4

// ofPolicies says whether a message of XFRM is about policies, as each message is to those who listen for policies alone.
func ofPolicies(m syscall.NetlinkMessage) bool { return m.Header.Type >= unix.NLMSG_MIN_TYPE }

// awaitEvent calls then once, when the kernel tells of an event of modules and devices, or has lost such. The kernel tells in
// lines, not in messages of netlink (netlink(7), NETLINK_KOBJECT_UEVENT).
func (w *watcher) awaitEvent(ctx context.Context, event string, then func(lost bool) error) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
	}
	if err != nil {
		return fmt.Errorf("waiting for modules of the kernel: %w", err)
	}
	events := os.NewFile(uintptr(fd), "uevents")
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	go func() {
		defer events.Close()
		defer stop()
		lost, err := awaitLine(events, event)
		if err == nil {
			err = then(lost)
		}
		if err != nil && ctx.Err() == nil {
			w.fail(fmt.Errorf("waiting for modules of the kernel: %w", err))
		}
	}()
	return nil
}

// awaitLine reads until a message begins with a line, or messages were lost.
func awaitLine(events io.Reader, line string) (lost bool, err error) {
	message := make([]byte, 8192) // the kernel's have at most 2 KiB
	for {
		n, err := events.Read(message)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return true, nil
		case err != nil:
			return false, err
		case bytes.HasPrefix(message[:n], []byte(line+"\x00")):
			return false, nil
		}
	}
}
