package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// trust refuses a profile that somebody other than root and the person at the terminal could have written: it runs
// as root.
func (a *app) trust(p profiles.Profile) error { return a.trustFile(p.File) }

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
