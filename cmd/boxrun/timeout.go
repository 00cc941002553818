package main

import (
	"errors"
	"strconv"
	"time"
)

// timeoutFlag is a flag for how long to wait, as in 90s or 2m30s; a bare number is seconds, as other tools have it. 0 is not
// at all, and without the flag it is the profile's to say.
type timeoutFlag struct{ given *time.Duration }

// Set refuses what is no duration, and negative ones.
func (f *timeoutFlag) Set(text string) error {
	if _, err := strconv.Atoi(text); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("must be a duration, such as 90s or 2m30s")
	}
	if d < 0 {
		return errors.New("must not be negative")
	}
	f.given = &d
	return nil
}

func (f *timeoutFlag) String() string {
	if f.given == nil {
		return ""
	}
	return f.given.String()
}

// Type is what the help calls the value.
func (f *timeoutFlag) Type() string { return "duration" }
