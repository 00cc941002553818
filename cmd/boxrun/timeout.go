package main

import (
	"errors"
	"strconv"
	"time"
)

// timeoutFlag is a flag for how long to wait, as in 90s or 2m30s. A bare number is seconds, as in other tools. 0 means
// no waiting. Without the flag given is nil, and the profile decides.
type timeoutFlag struct{ given *time.Duration }

// Set parses text. Text that is no duration, and negative durations, are refused.
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

// Type returns the name of the value in the help.
func (f *timeoutFlag) Type() string { return "duration" }
