package fault

import (
	"errors"
	"fmt"
)

// Split returns the parts of an error made by errors.Join, in their order. For nil the result is empty.
func Split(err error) []error {
	if err == nil {
		return nil
	}
	var several interface{ Unwrap() []error }
	if !errors.As(err, &several) {
		return []error{err}
	}
	var all []error
	for _, e := range several.Unwrap() {
		all = append(all, Split(e)...)
	}
	return all
}

// The kinds of failure. Callers tell failures apart by errors.Is; cmd/boxrun maps the kinds to the documented exit
// codes.
var (
	ErrInvalid    = errors.New("invalid profile")         // the profile is wrong, on every host; nothing was changed
	ErrRefused    = errors.New("refused")                 // the host lacks something, or has it in use; nothing was changed
	ErrNotFound   = errors.New("no such box")             // neither a box nor a profile has the name
	ErrNotStarted = errors.New("the box did not start")   // nothing of the box is left
	ErrNotReady   = errors.New("not ready in time")       // the box stays up
	ErrBuild      = errors.New("the image was not built") // an existing image is unchanged
	ErrHook       = errors.New("post_up failed")          // a command of post_up failed; the box stays up
	ErrKilled     = errors.New("had to be killed")        // the box is down, but did not stop by itself
)

// Problem is an error of a kind from the list above, with advice for the user. Error returns Text alone: Kind serves
// errors.Is, and Hint goes on a line of its own.
type Problem struct {
	Kind error
	Text string
	Hint string // "": no advice
}

func (p *Problem) Error() string { return p.Text }

func (p *Problem) Unwrap() error { return p.Kind }

// HintOf returns the hint of the first Problem in err's chain; "" if the chain has no Problem.
func HintOf(err error) string {
	var p *Problem
	if errors.As(err, &p) {
		return p.Hint
	}
	return ""
}

// Caution is a warning to a person, with advice.
type Caution struct{ Text, Hint string }

// Invalid returns an ErrInvalid with a hint and a formatted text: the profile is wrong, on every host.
func Invalid(hint, format string, args ...any) error {
	return &Problem{Kind: ErrInvalid, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// Refused returns an ErrRefused with a hint and a formatted text: the host lacks what the profile
// asks for, or has it in use.
func Refused(hint, format string, args ...any) error {
	return &Problem{Kind: ErrRefused, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// Wrap returns err with the words on what was being done in front, "doing: err"; nil if err is nil.
func Wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// Each calls do for each element of list, past errors, and returns all errors joined.
func Each[T any](list []T, do func(T) error) error {
	errs := make([]error, len(list))
	for i, element := range list {
		errs[i] = do(element)
	}
	return errors.Join(errs...)
}
