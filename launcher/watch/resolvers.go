package watch

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/fsnotify/fsnotify"

	"boxrun/launcher/files"
	"boxrun/netsetup/resolvers"
)

// watchResolvers tells of changes to the host's resolver files. Programs replace such files, so the directories are
// watched.
func watchResolvers(ctx context.Context, w *watcher) error {
	dirs, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("waiting for changes of name servers: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = dirs.Close() })
	watched := resolvers.Files()
	addMissing(dirs, watched)
	go func() {
		for {
			select {
			case event, open := <-dirs.Events:
				if !open {
					return
				}
				if slices.Contains(watched, event.Name) {
					addMissing(dirs, watched) // a resolver that starts replaces /etc/resolv.conf, and makes its directory
					w.tell()
				}
			case err, open := <-dirs.Errors:
				if open {
					w.fail(fmt.Errorf("waiting for changes of name servers: %w", err))
				}
				return
			}
		}
	}()
	return nil
}

// addMissing watches the existing directories of the files.
func addMissing(dirs *fsnotify.Watcher, watched []string) {
	for _, file := range watched {
		if dir := filepath.Dir(file); files.Exists(dir) {
			_ = dirs.Add(dir) // a directory that has gone since is added when it is there again
		}
	}
}
