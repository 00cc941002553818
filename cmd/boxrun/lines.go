package main

import (
	"errors"
	"math"
	"strconv"
)

// linesFlag is a flag for how many lines to show. Without the flag given is nil, and the number is not limited.
type linesFlag struct{ given *int }

// Set parses text. Text that is no number, negative numbers, and numbers above journalctl's limit are refused.
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

// Type returns the name of the value in the help.
func (f *linesFlag) Type() string { return "number" }
