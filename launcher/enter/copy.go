package enter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/say"
)

// Copy describes a copy between a box and the host.
type Copy struct {
	Box     string
	Inside  string // path in the box, from its root
	Outside string // path on the host
	In      bool   // direction: true copies into the box, false out of the box
}

// transfer holds the paths for one side of a copy. Both sides are boxrun: the sending side packs Source into a tar
// stream, the receiving side unpacks the stream at Target. In the box boxrun's own executable runs too (enter.go), so
// an image needs no tar, and links in the box are resolved inside the box.
type transfer struct {
	Source, Target string
	Unpack         bool // this side receives
}

// run does the part of this side: a sending side writes to out, a receiving side reads from in. Files that cannot be
// copied, such as sockets, get a line on notes.
func (t transfer) run(in io.Reader, out, notes io.Writer) error {
	if t.Unpack {
		return unpack(in, t.Source, t.Target)
	}
	return pack(out, notes, t.Source)
}

// inside does the part of the box, in a process whose root is the box's root.
func (t transfer) inside() error {
	unix.Umask(0)
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := t.run(os.Stdin, os.Stdout, os.Stderr); err != nil { //nolint:forbidigo // they lead to boxrun outside
		return &failure{Code: 1, Text: "in the box: " + err.Error()}
	}
	return nil
}

// RunCopy copies a file or a directory tree as "cp -a" does: numeric owners, modes, times, symbolic links and hard links
// are kept. If the target is a directory, the copy goes into the target under its own name; of a source "DIR/." only
// the contents go there. Otherwise the copy becomes the target, and the parent directory of the target must exist.
// Existing directories are merged, existing files are replaced. The error is ErrNotFound where the box is not up.
func RunCopy(ctx context.Context, s *box.Store, c Copy) error {
	b, err := s.Find(c.Box)
	if err != nil {
		return err
	}
	if !b.Alive() {
		return NotUp(b)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	var notes bytes.Buffer
	e := Command{Stderr: &notes}
	if c.In {
		e.copy, e.Stdin = &transfer{c.Outside, c.Inside, true}, r
	} else {
		e.copy, e.Stdout = &transfer{c.Inside, c.Outside, false}, w
	}
	err = copyBeside(ctx, s, b, e, r, w, &notes)
	for line := range strings.Lines(notes.String()) {
		s.Note(say.Printable(strings.TrimSuffix(line, "\n")))
	}
	return err
}

// copyBeside runs the box's side and the host's side of a copy at the same time, connected by the pipe of r and w.
// The messages of both sides go to notes.
func copyBeside(ctx context.Context, s *box.Store, b *box.Box, e Command, r, w *os.File, notes *bytes.Buffer) error {
	own := transfer{e.copy.Source, e.copy.Target, !e.copy.Unpack}
	var ownNotes bytes.Buffer
	done := make(chan error, 1)
	go func() {
		err := own.run(r, w, &ownNotes)
		if own.Unpack {
			r.Close() // otherwise the box's side would wait for a reader that has given up
		} else {
			w.Close()
		}
		done <- err
	}()
	code, err := RunIn(ctx, RefOf(s, b), e)
	if own.Unpack {
		w.Close()
	} else {
		r.Close()
	}
	ownErr := <-done
	notes.Write(ownNotes.Bytes())
	return joinSides(b.Name, code, err, ownErr)
}

// joinSides returns the reason why a copy failed. An error about a broken pipe or an early end on the host is only
// the effect of an error in the box, so the error of the box takes precedence.
func joinSides(box string, code int, inside, outside error) error {
	if inside == nil && code != 0 {
		inside = fmt.Errorf("copying in box %q: it ended with %d", box, code)
	}
	if errors.Is(outside, unix.EPIPE) || errors.Is(outside, os.ErrClosed) || errors.Is(outside, io.ErrUnexpectedEOF) || errors.Is(outside, io.EOF) {
		if inside != nil {
			return inside
		}
	}
	if outside != nil {
		return outside
	}
	return inside
}

// NotUp returns the error for a box that has a state on the host but does not run.
func NotUp(b *box.Box) error {
	return &fault.Problem{Kind: fault.ErrNotFound,
		Text: fmt.Sprintf("box %q is %s", b.Name, b.State()),
		Hint: fmt.Sprintf("\"boxrun up %s\" brings it up again", b.Name)}
}

// contents says whether a source means the contents of a directory, not the directory itself: such a source is "." or
// "/", or ends in "/.".
func contents(source string) bool {
	return source == "." || strings.HasSuffix(source, "/.") || path.Clean(source) == "/"
}

// placeFor returns the path where the copy of source goes, given the target a person named. isDir says whether source
// is a directory. If target is a directory, the path is inside target, or target itself for the contents of a
// directory. Otherwise the path is target. Errors are: a directory copied onto a file, and a target ending in "/"
// that is not a directory.
func placeFor(source, target string, isDir bool) (string, error) {
	info, err := os.Stat(target)
	switch {
	case err == nil && info.IsDir() && isDir && contents(source):
		return target, nil
	case err == nil && info.IsDir():
		return path.Join(target, path.Base(path.Clean(source))), nil
	case err == nil && isDir:
		return "", fmt.Errorf("%q is no directory, and %q is one", target, source)
	case err == nil && strings.HasSuffix(target, "/"), errors.Is(err, unix.ENOTDIR):
		return "", fmt.Errorf("%q is no directory", target)
	case errors.Is(err, os.ErrNotExist) && strings.HasSuffix(target, "/") && !isDir:
		return "", fmt.Errorf("there is no directory %q", target)
	case err == nil, errors.Is(err, os.ErrNotExist):
		return path.Clean(target), nil
	}
	return "", err
}
