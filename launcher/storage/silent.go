package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// RefuseSilent refuses a profile with a file on a file system that does not answer. Every other look at these files would
// wait for ever, and hold up whoever presses Ctrl-C. The error is the cause of ctx where ctx ends.
func RefuseSilent(ctx context.Context, p profiles.Profile) error {
	for _, f := range filesOf(p) {
		_, err := files.Within(ctx, func() (fs.FileInfo, error) { return os.Stat(f.path) })
		if errors.Is(err, files.ErrSilent) {
			return fault.Refused("bring back what serves it, or unmount it: \"findmnt -l\" lists what is mounted",
				"%s: %s: %q: %v", p.File, f.key, f.path, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// keyed is a path of the host, and the key of a profile with the path.
type keyed struct{ key, path string }

func filesOf(p profiles.Profile) []keyed {
	var list []keyed
	if !box.IsHello(p.Image) {
		list = append(list, keyed{"image", p.Image})
	}
	if p.Storage.Root == "overlay" {
		list = append(list, keyed{"storage.overlay", p.Storage.Overlay})
	}
	for i, b := range p.Storage.Binds {
		list = append(list, keyed{fmt.Sprintf("storage.binds[%d]", i), b.Source})
	}
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		list = append(list, keyed{"secrets." + name, p.Secrets[name]})
	}
	return list
}
