package given

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Flag is a flag whose absence means something: Value is nil then.
type Flag[T any] struct {
	Value *T
	parse func(text string) (T, error)
	kind  string
}

// Set parses text. The error is from parse, and leaves the flag as before.
func (f *Flag[T]) Set(text string) error {
	v, err := f.parse(text)
	if err == nil {
		f.Value = &v
	}
	return err
}

// String returns the value, "" for none.
func (f *Flag[T]) String() string {
	if f.Value == nil {
		return ""
	}
	return fmt.Sprint(*f.Value)
}

// Type returns the name of the value in the help.
func (f *Flag[T]) Type() string { return f.kind }

// Lines returns a flag for how many lines to show. Without the flag the number is not limited.
func Lines() *Flag[int] { return &Flag[int]{parse: parseLines, kind: "number"} }

// parseLines refuses text that is no number, negative numbers, and numbers above journalctl's limit.
func parseLines(text string) (int, error) {
	if text == "all" { // as with journalctl and docker
		return -1, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		err = errors.New("must be a number")
	case n < 0:
		err = errors.New("must not be negative")
	case err != nil:
		err = errors.New("must be at most " + strconv.Itoa(math.MaxInt32))
	}
	return int(n), err
}

// Timeout returns a flag for how long to wait. Without the flag the profile decides.
func Timeout() *Flag[time.Duration] {
	return &Flag[time.Duration]{parse: parseTimeout, kind: "duration"}
}

// parseTimeout reads a duration, as in 90s or 2m30s. A bare number is seconds, as in other tools. 0 means no waiting.
// Negative durations are refused.
func parseTimeout(text string) (time.Duration, error) {
	if _, err := strconv.Atoi(text); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("must be a duration, such as 90s or 2m30s")
	}
	if d < 0 {
		return 0, errors.New("must not be negative")
	}
	return d, nil
}
