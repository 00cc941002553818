package launcher

import "errors"

// The kinds of failure a caller tells apart, by errors.Is; cmd/boxrun maps them to the documented exit codes.
var (
	ErrInvalid    = errors.New("invalid profile")         // it names what is not there; nothing was changed
	ErrRefused    = errors.New("refused")                 // the host is not ready for it; nothing was changed
	ErrNotFound   = errors.New("no such box")             // neither a box nor a profile of that name
	ErrNotStarted = errors.New("the box did not start")   // nothing of it is left
	ErrNotReady   = errors.New("not ready in time")       // the box stays up
	ErrBuild      = errors.New("the image was not built") // what was there is as it was
	ErrHook       = errors.New("post_up failed")          // one of its commands; the box stays up
	ErrKilled     = errors.New("had to be killed")        // the box is down, but did not stop by itself
)

// Problem is an error of one of the kinds above, with what a person can do about it. Its text is Text alone: the kind
// is for errors.Is, the hint goes on a line of its own.
type Problem struct {
	Kind error
	Text string
	Hint string // "" where there is nothing to advise
}

func (p *Problem) Error() string { return p.Text }

func (p *Problem) Unwrap() error { return p.Kind }

// HintOf gives the hint of the first Problem in err's chain, or "".
func HintOf(err error) string {
	var p *Problem
	if errors.As(err, &p) {
		return p.Hint
	}
	return ""
}
