package enter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/say"
)

// Transfer is a copy between a box and the host. A path in the box begins at the box's root.
type Transfer struct {
	Source, Target string
	Into           bool // the target is in the box, and the source on the host; false: the other way round
}

// side is one side of a copy. Both sides are boxrun: one packs what there is at Source into a tar
// stream, the other unpacks it. In the box it is boxrun's own executable too (inside.go), so an image needs no tar, and
// what is a link in the box leads where it leads there.
type side struct {
	Source, Target string
	Unpack         bool // this side is the target's
}

// run does this side's part: a packing side writes to out, an unpacking one reads from in. What could not be copied for
// what it is gets a line on notes.
func (d side) run(in io.Reader, out, notes io.Writer) error {
	if d.Unpack {
		return unpack(in, d.Source, d.Target)
	}
	return pack(out, notes, d.Source)
}

// inside does the box's part; the box's root is the process's own.
func (d side) inside() error {
	unix.Umask(0)
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := d.run(os.Stdin, os.Stdout, os.Stderr); err != nil { //nolint:forbidigo // they lead to boxrun outside
		return &failure{Code: 1, Text: "in the box: " + err.Error()}
	}
	return nil
}

// Copy copies a file or a directory with all below it, as "cp -a" does: owners by their numbers, modes, times, symbolic
// and hard links are kept. Where the target is a directory the copy goes into it under its own name, a directory given
// as "DIR/." with its contents; else it becomes the target, whose parent has to be there. Directories that are there
// are merged, files are replaced. ErrNotFound: the box is not up.
func Copy(ctx context.Context, s *box.Store, name string, t Transfer) error {
	b, err := Find(s, name)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	var inNotes, outNotes bytes.Buffer
	inside := entry{Command: Command{Stderr: &inNotes}, Copy: &side{t.Source, t.Target, t.Into}}
	boxEnd, hostEnd := w, r
	if t.Into {
		boxEnd, hostEnd = r, w
		inside.Stdin = r
	} else {
		inside.Stdout = w
	}
	done := make(chan error, 1)
	go func() {
		err := side{t.Source, t.Target, !t.Into}.run(hostEnd, hostEnd, &outNotes)
		hostEnd.Close() // the box's side must not wait for a host's side that gave up
		done <- err
	}()
	code, err := RefOf(s, b).run(ctx, inside)
	boxEnd.Close()
	err = joinSides(b.Name, code, err, <-done)
	for line := range strings.Lines(inNotes.String() + outNotes.String()) {
		s.Note(say.Printable(strings.TrimSuffix(line, "\n")))
	}
	return err
}

// joinSides gives why a copy failed. Where both sides have a reason, that of a pipe which broke, or ended early, is the
// other's.
func joinSides(box string, code int, inside, outside error) error {
	if inside == nil && code != 0 {
		inside = fmt.Errorf("copying in box %q: it ended with %d", box, code)
	}
	broken := func(err error) bool { return errors.Is(outside, err) }
	if outside == nil || inside != nil && slices.ContainsFunc([]error{unix.EPIPE, os.ErrClosed, io.ErrUnexpectedEOF, io.EOF}, broken) {
		return inside
	}
	return outside
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
