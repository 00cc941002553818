package enter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/say"
)

// Transfer is a copy between a box and the host. A path in the box begins at the box's root.
type Transfer struct {
	Source, Target string
	Into           bool      // direction: true copies into the box, false out of the box
	Follow         bool      // Source may be a link, and what the link leads to is copied
	SetID          bool      // a copy out of the box keeps set-user-ID and set-group-ID bits
	In             io.Reader // a tar stream in place of Source on the host; nil: Source counts
	Out            io.Writer // takes a tar stream in place of Target on the host; nil: Target counts
}

// outside does the part of the host.
func (t Transfer) outside(in io.Reader, out, notes io.Writer) error {
	s := side{Source: t.Source, Target: t.Target, Unpack: !t.Into, Follow: t.Follow, Plain: !t.SetID}
	switch {
	case t.Into && t.In != nil:
		return fromTar(t.In, out, notes)
	case !t.Into && t.Out != nil:
		return toTar(in, t.Out, s)
	}
	return s.run(in, out, notes)
}

// side holds the paths for one side of a copy. Both sides are boxrun: the sending side packs Source into a tar
// stream, the receiving side unpacks the stream at Target. In the box boxrun's own executable runs too (inside.go), so
// an image needs no tar, and links in the box are resolved inside the box.
type side struct {
	Source, Target string
	Unpack         bool // this side receives
	Follow         bool // a sending side packs what a link at Source leads to
	Plain          bool // this side makes no files with set-user-ID and set-group-ID bits
}

// run sends to out, or receives from in. Files that cannot be copied, such as sockets, get a line on notes.
func (s side) run(in io.Reader, out, notes io.Writer) error {
	if s.Unpack {
		return unpack(in, s)
	}
	if s.Follow && !contents(s.Source) {
		led, err := filepath.EvalSymlinks(s.Source)
		if err != nil {
			return packer{root: s.Source}.failed(".", err)
		}
		s.Source = led
	}
	return pack(out, notes, s.Source)
}

// inside does the part of the box, in a process whose root is the box's root.
func (s side) inside() error {
	unix.Umask(0)
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := s.run(os.Stdin, os.Stdout, os.Stderr); err != nil { //nolint:forbidigo // they lead to boxrun outside
		return &failure{Code: 1, Text: "in the box: " + err.Error()}
	}
	return nil
}

// Copy copies a file or a directory tree as "cp -a" does: numeric owners, modes, times, symbolic links and hard links
// are kept. If the target is a directory, the copy goes into the target under its own name; of a source "DIR/." only
// the contents go there. Otherwise the copy becomes the target, and the parent directory of the target must exist.
// Existing directories are merged, existing files are replaced; both keep their owner and mode. The error is ErrNotFound
// where the box is not up.
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
	var inNotes, outNotes say.Head
	inside := entry{Command: Command{Stderr: &inNotes}, Copy: &side{Source: t.Source, Target: t.Target, Unpack: t.Into, Follow: t.Follow}}
	if t.In != nil {
		inside.Copy.Source = "." // the contents of a directory
	}
	boxEnd, hostEnd := w, r
	if t.Into {
		boxEnd, hostEnd = r, w
		inside.Stdin = r
	} else {
		inside.Stdout = w
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := t.outside(patient{hostEnd}, patient{hostEnd}, &outNotes)
		hostEnd.Close() // the box's side must not wait for a host's side that gave up
		if err != nil {
			cancel() // nor wait for a file of the box
		}
		time.AfterFunc(copyPatience, cancel)
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

// copyPatience is how long a box may keep a copy waiting for a byte, or for the end. A box that writes to a file server
// may take long to close a file.
const copyPatience = time.Minute

// patient is boxrun's end of the pipe of a copy. A box that keeps boxrun waiting for longer than copyPatience is an error.
type patient struct{ pipe *os.File }

func (p patient) Read(b []byte) (int, error) {
	_ = p.pipe.SetReadDeadline(time.Now().Add(copyPatience)) // fails for no pipe
	n, err := p.pipe.Read(b)
	return n, waitedFor(err)
}

func (p patient) Write(b []byte) (int, error) {
	_ = p.pipe.SetWriteDeadline(time.Now().Add(copyPatience))
	n, err := p.pipe.Write(b)
	return n, waitedFor(err)
}

// waitedFor tells of a deadline in words.
func waitedFor(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("copying: the box has moved no byte for %v", copyPatience)
	}
	return err
}

// joinSides returns the reason why a copy failed. An error about a broken pipe or an early end on the host is only
// the effect of an error in the box, so the error of the box takes precedence.
func joinSides(box string, code int, inside, outside error) error {
	if inside == nil && code != 0 {
		inside = fmt.Errorf("copying in box %q: it ended with %d", box, code)
	}
	effects := []error{unix.EPIPE, os.ErrClosed, io.ErrUnexpectedEOF, io.EOF}
	effect := slices.ContainsFunc(effects, func(err error) bool { return errors.Is(outside, err) })
	if outside == nil || inside != nil && effect {
		return inside
	}
	return outside
}

// contents says whether a source means the contents of a directory, not the directory itself: such a source is "." or
// "/", or ends in "/.".
func contents(source string) bool {
	return source == "." || strings.HasSuffix(source, "/.") || path.Clean(source) == "/"
}

// placeFor returns where the copy of source goes, given the target a person named: the name of the copy in a directory;
// "." for the directory itself. isDir says whether source is a directory. If target is a directory, the copy goes inside
// target, or is target itself for the contents of a directory. Otherwise the copy becomes target. Links are followed up
// to the directory, and the name is no link's to lead elsewhere. Errors are: a directory copied onto a file, and a target
// ending in "/" that is not a directory.
func placeFor(source, target string, isDir bool) (dir, name string, err error) {
	info, err := os.Stat(target)
	switch {
	case err == nil && info.IsDir() && isDir && contents(source):
		return target, ".", nil
	case err == nil && info.IsDir():
		return target, path.Base(path.Clean(source)), nil
	case err == nil && isDir:
		return "", "", fmt.Errorf("%q is no directory, and %q is one", target, source)
	case err == nil && strings.HasSuffix(target, "/"), errors.Is(err, unix.ENOTDIR):
		return "", "", fmt.Errorf("%q is no directory", target)
	case errors.Is(err, os.ErrNotExist) && strings.HasSuffix(target, "/") && !isDir:
		return "", "", fmt.Errorf("there is no directory %q", target)
	case err == nil, errors.Is(err, os.ErrNotExist):
		return path.Dir(path.Clean(target)), path.Base(path.Clean(target)), nil
	}
	return "", "", err
}
