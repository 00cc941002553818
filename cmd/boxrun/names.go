package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"boxrun/profiles"
)

// resolved gives for each profile that is valid what to name it by under sudo: where it was found. Where none is, there
// is nothing to ask a password for, and the errors are returned.
func (a *app) resolved(names []string) (map[string]string, error) {
	found := map[string]string{}
	var errs []error
	for _, name := range names {
		p, err := a.search.Load(name)
		if errors.Is(err, fs.ErrPermission) {
			continue // for root to read
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ref, err := a.search.Find(name)
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

// trust refuses a profile that somebody other than root and the person at the terminal could have written, or could
// give other secrets: it runs as root.
func (a *app) trust(p profiles.Profile) error {
	if err := a.trustFile(p.File); err != nil {
		return err
	}
	return trustSecrets(p, a.trustFile)
}

// trustSecrets refuses secrets that somebody whom trusted does not trust could put another file of root's in the place
// of. The files themselves are the launcher's to judge: whether they are there, and root's alone.
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

// isFile says whether path is neither a directory nor a link: the end of a way.
func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && !info.IsDir() && info.Mode()&fs.ModeSymlink == 0
}

// trustFile is trust for a profile's file, or its definition: that runs as root too.
func (a *app) trustFile(file string) error {
	if os.Geteuid() != 0 || !filepath.IsAbs(file) {
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
	return profiles.Trusted(file, invoker)
}
