package netsetup

import (
	"errors"
	"io/fs"
)

// ignore returns nil for an error that wraps a target, and any other error as is.
func ignore(err error, targets ...error) error {
	for _, target := range targets {
		if errors.Is(err, target) {
			return nil
		}
	}
	return err
}

// ignoreAbsent drops the error of a file that does not exist.
func ignoreAbsent(err error) error { return ignore(err, fs.ErrNotExist) }
