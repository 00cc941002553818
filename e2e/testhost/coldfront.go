package testhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"boxrun/profiles"
)

// ColdfrontImage is the image of the built-in profile coldfront.
const ColdfrontImage = "/var/lib/boxrun/coldfront/coldfront.sif"

// ColdfrontRoot returns the directory on the machine with the root of the box coldfront, built from the recipe of the
// profile. A root that is not cached is built first, and progress is called.
func ColdfrontRoot(ctx context.Context, progress func(string)) (string, error) {
	recipe, err := profiles.Recipe("builtin:coldfront")
	if err != nil {
		return "", err
	}
	sum, err := sumOf(recipe)
	if err != nil {
		return "", err
	}
	root := filepath.Join(CacheDir(), "coldfront-"+sum)
	return root, ensure(root, progress, func(partial string) error { return buildColdfront(ctx, recipe, partial) })
}

// sumOf returns a checksum of the names and contents of all files.
func sumOf(files fs.FS) (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		fmt.Fprintf(sum, "%q %q\n", path, text)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:6]), err
}

// buildColdfront runs the recipe's script sandbox.sh, for machines with nothing but package mirrors.
func buildColdfront(ctx context.Context, recipe fs.FS, partial string) error {
	dir, err := os.MkdirTemp("", "boxrun-coldfront-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, recipe); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", filepath.Join(dir, "sandbox.sh"), partial)
	cmd.Env = append(os.Environ(), "MIRROR="+mirror(ctx))
	return finish(cmd, "the recipe, which needs Debian's mirrors and PyPI")
}
