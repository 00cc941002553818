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

// Copy is one copy between a box and the host.
type Copy struct {
	Box     string
	Inside  string // path in the box, from its root
	Outside string // path on the host
	In      bool   // to the box, and not from it
}

// transfer is what one side of a copy depends on. Both sides are boxrun: one packs what there is at Source into a tar
// stream, the other unpacks it. In the box it is boxrun's own executable too (enter.go), so an image needs no tar, and
// what is a link in the box leads where it leads there.
type transfer struct {
	Source, Target string
	Unpack         bool // this side is the target's
}

// run does this side's part: a packing side writes to out, an unpacking one reads from in. What could not be copied for
// what it is gets a line on notes.
func (t transfer) run(in io.Reader, out, notes io.Writer) error {
	if t.Unpack {
		return unpack(in, t.Source, t.Target)
	}
	return pack(out, notes, t.Source)
}

// inside does the box's part; the box's root is the process's own.
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

// RunCopy copies a file or a directory with all below it, as "cp -a" does: owners by their numbers, modes, times, symbolic
// and hard links are kept. Where the target is a directory the copy goes into it under its own name, a directory given
// as "DIR/." with its contents; else it becomes the target, whose parent has to be there. Directories that are there
// are merged, files are replaced. ErrNotFound: the box is not up.
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

// copyBeside runs the box's part of a copy, and the host's at the same time.
func copyBeside(ctx context.Context, s *box.Store, b *box.Box, e Command, r, w *os.File, notes *bytes.Buffer) error {
	own := transfer{e.copy.Source, e.copy.Target, !e.copy.Unpack}
	var ownNotes bytes.Buffer
	done := make(chan error, 1)
	go func() {
		err := own.run(r, w, &ownNotes)
		if own.Unpack {
			r.Close() // the box's side must not wait for a reader who gave up
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

// joinSides gives why a copy failed. Where both sides have a reason, that of a pipe which broke, or ended early, is the
// other's.
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

// NotUp is the error of a box that there is state of and that does not run.
func NotUp(b *box.Box) error {
	return &fault.Problem{Kind: fault.ErrNotFound,
		Text: fmt.Sprintf("box %q is %s", b.Name, b.State()),
		Hint: fmt.Sprintf("\"boxrun up %s\" brings it up again", b.Name)}
}

// contents says whether a source means what is in a directory, and not the directory: it ends in "/.".
func contents(source string) bool {
	return source == "." || strings.HasSuffix(source, "/.") || path.Clean(source) == "/"
}

// placeFor gives where what is at source goes when target is named for it, and whether it is a directory.
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
