package watch

import (
	"context"
	"errors"
	"io/fs"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
	"boxrun/netsetup/lan"
)

// lans are the boxes on a LAN whose addresses the watch hears of, by their init. A DHCP client in a box may
// get another address at any time, and a box may learn one of IPv6, to which the host then has to lead.
type lans map[process.Process]bool

// follow begins to listen in boxes that came up since the last call, and tells of a change for each: their addresses may
// have changed before. In a box that ends, the watch listens no more: what listens there would keep the network of the box.
func (l lans) follow(ctx context.Context, w *watcher) error {
	boxes, err := w.store.All()
	if err != nil && !errors.Is(err, box.ErrUnreadable) { // a box without a readable record has no address to follow
		return err
	}
	for _, b := range boxes {
		if !b.OnLAN() || l[b.Init] || b.Phase != box.Running || !b.Alive() {
			continue
		}
		inside, cancel := context.WithCancel(ctx)
		if err := lan.Changes(inside, b.Init.PID, w.tell, w.fail); err != nil {
			cancel()
			if errors.Is(err, fs.ErrNotExist) { // the box has just ended
				continue
			}
			return err
		}
		l[b.Init] = true
		go func() {
			defer cancel()
			_ = b.Init.Wait(inside) // the box has ended, or the watch
		}()
		w.tell()
	}
	return nil
}
