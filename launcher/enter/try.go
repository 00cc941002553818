package enter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"boxrun/launcher/confine"
	"boxrun/launcher/say"
	"boxrun/profiles"
)

// Try tries ways from the box to the host, and returns what is open though the level closes the way: see confine.Try.
func (b Ref) Try(ctx context.Context, s profiles.Security) (open []string, err error) {
	var out say.Head
	code, err := b.run(ctx, entry{Command: Command{Stdout: &out, Stderr: &out}, Try: &s})
	if err == nil && code != 0 {
		err = errors.New("trying ended with exit code " + fmt.Sprint(code))
	}
	for line := range strings.Lines(out.String()) {
		open = append(open, say.Printable(strings.TrimSpace(line)))
	}
	return open, err
}

// tryInside does the part of Try inside the box.
func tryInside(s profiles.Security) error {
	for _, way := range confine.Try(s) {
		if _, err := fmt.Fprintln(os.Stdout, way); err != nil { //nolint:forbidigo // it leads to boxrun outside
			return err
		}
	}
	return nil
}
