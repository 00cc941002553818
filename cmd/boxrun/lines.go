package main

import (
	"errors"
	"math"
	"strconv"
)

// linesFlag is a flag for how many lines to show; without it they are not counted.
type linesFlag struct{ given *int }

// Set refuses what is no number, negative ones, and more than journalctl can count.
func (f *linesFlag) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 32)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return errors.New("must be a number")
	case n < 0:
		return errors.New("must not be negative")
	case err != nil:
		return errors.New("must be at most " + strconv.Itoa(math.MaxInt32))
	}
	lines := int(n)
	f.given = &lines
	return nil
}

func (f *linesFlag) String() string {
	if f.given == nil {
		return ""
	}
	return strconv.Itoa(*f.given)
}

// Type is what the help calls the value.
func (f *linesFlag) Type() string { return "number" }
