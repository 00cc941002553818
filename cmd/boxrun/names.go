package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxrun/launcher/files"
	"boxrun/profiles"
)

// resolved returns, for each valid profile in names, the file and instance to use under sudo. Profiles that only root
// can read are left out. When every name fails, resolved returns the errors, to avoid asking for a password in vain.
func resolved(search profiles.Search, names []string) (map[string]string, error) {
	found := map[string]string{}
	var errs []error
	for _, name := range names {
		p, err := search.Load(name)
		if errors.Is(err, fs.ErrPermission) {
			continue // root can read the profile
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ref, err := search.Find(name)
		if err != nil {
			return nil, err
		}
		ref.File = p.File
		found[name] = ref.String()
	}
	if len(names) > 0 && len(errs) == len(names) {
		return nil, errors.Join(errs...)
	}
	return found, nil
}

// noteOthers names the files left unused, because the boxes of names were started from other files of the same name.
func (a *app) noteOthers(names []string) {
	for _, name := range names {
		if other := a.search.Other(name); other != "" {
			from, _ := a.search.Find(name) // has found the box's file for Other
			a.notef("%s: means %s, from which the box was started, not %s", name, from, other)
		}
	}
}

// trust refuses a profile that anybody except root and the person at the terminal could have written, or could give
// other secrets. The profile runs as root.
func (a *app) trust(ctx context.Context, p profiles.Profile) error {
	if err := a.trustFile(ctx, p.File); err != nil {
		var untrusted *profiles.TrustError
		if hidden := a.search.Hidden(p.File); hidden != "" && errors.As(err, &untrusted) {
			untrusted.Hint = fmt.Sprintf("it hides %s, which takes its place where named so; else %s", hidden, untrusted.Hint)
		}
		return err
	}
	return trustSecrets(p, func(file string) error { return a.trustFile(ctx, file) })
}

// wouldTrust is trust, for a person who will run boxrun under sudo as well.
func (a *app) wouldTrust(ctx context.Context, p profiles.Profile) error {
	if a.caller.Root || strings.HasPrefix(p.File, "builtin:") {
		return a.trust(ctx, p)
	}
	return trusted(ctx, p.File, os.Getuid())
}

// trustSecrets refuses secrets whose path others could lead to another file. trusted judges a path. The launcher judges
// the secret files themselves: whether they exist and belong to root alone.
func trustSecrets(p profiles.Profile, trusted func(file string) error) error {
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		err := trusted(p.Secrets[name])
		var untrusted *profiles.TrustError
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, &untrusted) && isFile(untrusted.Path) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: secrets.%s: %w", p.File, name, err)
		}
	}
	return nil
}

// isFile reports whether path ends in neither a directory nor a link.
func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && !info.IsDir() && info.Mode()&fs.ModeSymlink == 0
}

// trustFile refuses, as root, a profile or definition that others could have written: both run as root. $SUDO_UID names
// the person at the terminal. Relative paths and built-in profiles pass, and without root everything does.
func (a *app) trustFile(ctx context.Context, file string) error {
	if !a.caller.Root || !filepath.IsAbs(file) {
		return nil
	}
	invoker := profiles.RootAlone
	if id := os.Getenv("SUDO_UID"); id != "" {
		uid, err := strconv.Atoi(id)
		if err != nil {
			return fmt.Errorf("reading $SUDO_UID: %w", err)
		}
		invoker = uid
	}
	return trusted(ctx, file, invoker)
}

// trusted refuses a file that others than root and the user with number uid could have written, or that its file system
// does not tell of. When ctx ends, the error is its cause.
func trusted(ctx context.Context, file string, uid int) error {
	_, err := files.Within(ctx, func() (bool, error) { return true, profiles.Trusted(file, uid) })
	if errors.Is(err, files.ErrSilent) {
		return fmt.Errorf("looking at %s: %w", file, err)
	}
	return err
}
