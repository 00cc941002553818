package routing

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Apply changes rules and routes, past errors: what is new first, a rule after the routes of its table. Something to
// delete may be gone by now, something to add may be there.
func (c Change) Apply(h *netlink.Handle) error {
	var errs []error
	note := func(err error, expected unix.Errno, doing string, what fmt.Stringer) {
		if err != nil && !errors.Is(err, expected) {
			errs = append(errs, fmt.Errorf("%s %v: %w", doing, what, err))
		}
	}
	for _, r := range c.AddRoutes {
		link, err := h.LinkByName(r.Device)
		if err == nil {
			err = h.RouteReplace(r.netlink(link.Attrs().Index))
		}
		note(err, unix.EEXIST, "adding the route", r)
	}
	for _, r := range c.Add {
		note(h.RuleAdd(r.netlink()), unix.EEXIST, "adding the routing rule", r)
	}
	for _, r := range c.Delete {
		note(h.RuleDel(r.netlink()), unix.ENOENT, "deleting the routing rule", r)
	}
	for _, r := range c.DeleteRoutes {
		link, err := h.LinkByName(r.Device)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue // the routes went with the device
		}
		if err == nil {
			err = h.RouteDel(r.netlink(link.Attrs().Index))
		}
		note(err, unix.ESRCH, "deleting the route", r)
	}
	return errors.Join(errs...)
}
