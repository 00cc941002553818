package kept

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
)

// Remove removes an item of a box that is down, under the box's lock. The item first gets a name no box uses: a
// removal cut short leaves no half of an overlay to start from, and the next removal in the same directory ends the
// first. Every step is taken from an open directory. Error: ErrRefused for an item in use.
func (p Places) Remove(ctx context.Context, item Item) error {
	unlock, err := free(ctx, p.Store, item)
	if err != nil {
		return err
	}
	defer unlock()
	dir, name := filepath.Split(item.Path)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("removing %s: %w", item.Name, err)
	}
	defer root.Close()
	if !strings.HasPrefix(name, removing) {
		gone := removing + name
		if err := errors.Join(root.RemoveAll(gone), root.Rename(name, gone)); err != nil {
			return fmt.Errorf("removing %s: %w", item.Name, err)
		}
	}
	if err := sweep(root); err != nil {
		return fmt.Errorf("removing %s: %w", item.Name, err)
	}
	if filepath.Dir(filepath.Dir(item.Path)) == p.Own {
		_ = os.Remove(filepath.Dir(item.Path)) // fails, as it should, where something is left in it
		_ = os.Remove(p.Own)
	}
	return nil
}

// sweep ends all removals in a directory.
func sweep(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	return fault.Each(entries, func(e fs.DirEntry) error {
		if !strings.HasPrefix(e.Name(), removing) {
			return nil
		}
		return root.RemoveAll(e.Name())
	})
}

// free takes the lock of an item's box. Error: ErrRefused if a box with a record has the item.
func free(ctx context.Context, s *box.Store, item Item) (unlock func(), err error) {
	if unlock, err = s.LockBox(ctx, item.Box); err != nil {
		return nil, err
	}
	boxes, err := s.All()
	if err == nil {
		if by := usedBy(item, boxes); by != "" {
			err = fault.Refused(fmt.Sprintf("run \"boxrun down %s\" first", by), "%s is in use by box %q", item.Name, by)
		}
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// Export writes an item of a box that is down as a tar, with owners as numbers, extended attributes and holes. GNU tar
// writes the tar: the host's own tar can unpack all of the tar again. Error: ErrRefused for an item in use.
func (p Places) Export(ctx context.Context, item Item, out, errOut io.Writer) error {
	unlock, err := free(ctx, p.Store, item)
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := os.Open(filepath.Dir(item.Path))
	if err != nil {
		return fmt.Errorf("exporting %s: %w", item.Name, err)
	}
	defer dir.Close()
	tar := exec.CommandContext(ctx, "tar", "--create", "--sparse", "--xattrs", "--xattrs-include=*", "--acls",
		"--numeric-owner", "--one-file-system", "--directory=/proc/self/fd/3", "--", filepath.Base(item.Path))
	tar.Stdout, tar.Stderr, tar.ExtraFiles = out, errOut, []*os.File{dir}
	if err := tar.Run(); err != nil {
		return fmt.Errorf("exporting %s with tar: %w", item.Name, err)
	}
	return nil
}
