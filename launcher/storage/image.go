package storage

import (
	"context"
	"errors"
	"os"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
)

// KeptFor returns the sandbox kept for this box alone, to be removed with the box; "" if there is none.
func KeptFor(ctx context.Context, s *box.Store, b *box.Box) (string, error) {
	if !b.Image.Known() || b.Image.UUID != "" {
		return "", nil
	}
	kept, err := files.Within(ctx, func() (string, error) { return keptFor(s, b) })
	if errors.Is(err, files.ErrSilent) {
		return "", nil // what is there is for the next build of the image to remove
	}
	return kept, err
}

func keptFor(s *box.Store, b *box.Box) (string, error) {
	image := files.Resolved(b.Profile.Image)
	kept := box.KeptImage(image, b.Image.Inode)
	if _, err := os.Lstat(kept); err != nil {
		return "", files.IgnoreNotExist(err)
	}
	others, err := s.Others(b.Name)
	if err != nil || RunFrom(others, image, b.Image.Inode) {
		return "", err
	}
	return kept, nil
}

// RunFrom reports whether any of boxes runs from the sandbox with the given inode, at path image when the box started.
// A box started by an older boxrun has no known image and counts as running from the sandbox.
func RunFrom(boxes []*box.Box, image string, inode uint64) bool {
	return slices.ContainsFunc(boxes, func(b *box.Box) bool {
		return HoldsFiles(b) && (b.Image.Inode == inode || !b.Image.Known()) && files.Resolved(b.Profile.Image) == image
	})
}
