package enter

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// A copy to or from "-" is a tar stream of other programs, as "docker cp" writes and reads. The side of the box does not
// know: the side of the host translates.

// errCut is the error for a tar stream without an end. The side that sends a stream of boxrun's has the reason.
var errCut = io.ErrUnexpectedEOF

// tarOf reads a tar stream that has to end with the mark of its end: a cut between two files is an errCut, as is any other.
func tarOf(in io.Reader) *tar.Reader { return tar.NewReader(endless{in}) }

// endless is a stream that is not read to its end, unless it is cut short.
type endless struct{ io.Reader }

func (e endless) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	if errors.Is(err, io.EOF) {
		err = errCut
	}
	return n, err
}

// toTar translates a copy out of a box into a tar stream whose names begin with the name of the source. Files with
// holes come whole.
func toTar(in io.Reader, out io.Writer, s side) error {
	base := path.Base(path.Clean(s.Source))
	if contents(s.Source) {
		base = "."
	}
	from, to := tarOf(in), tar.NewWriter(out)
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			return to.Close()
		}
		if err == nil && !filepath.IsLocal(h.Name) {
			err = fmt.Errorf("copying: %q leads out of the copy", h.Name)
		}
		if err == nil {
			err = s.passOn(from, to, h, base)
		}
		if err != nil {
			return err
		}
	}
}

// passOn writes a file of a copy to a tar stream, below base.
func (s side) passOn(from io.Reader, to *tar.Writer, h *tar.Header, base string) error {
	plain := tar.Header{Typeflag: h.Typeflag, Name: path.Join(base, h.Name), Linkname: h.Linkname, Size: h.Size, Mode: h.Mode,
		Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime, Format: tar.FormatPAX}
	switch {
	case h.Typeflag == tar.TypeLink:
		plain.Linkname = path.Join(base, h.Linkname)
	case h.Typeflag == tar.TypeDir:
		plain.Name += "/"
	case s.Plain:
		plain.Mode &^= setIDBits
	}
	data, err := partsOf(h)
	if err != nil {
		return err
	}
	plain.Size = data.size
	if err := to.WriteHeader(&plain); err != nil {
		return err
	}
	return data.expand(to, from)
}

// setIDBits are the set-user-ID and set-group-ID bits in the mode of a tar header.
const setIDBits = 0o6000

// fromTar translates a tar stream of another program into a copy of a directory's contents. Directories that the stream
// does not name are added, and devices are left out, with a line on notes.
func fromTar(in io.Reader, out, notes io.Writer) error {
	from, to := tarOf(in), tar.NewWriter(out)
	dirs := map[string]bool{}
	if err := addParents(to, dirs, "."); err != nil {
		return err
	}
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			return to.Close()
		}
		if errors.Is(err, errCut) {
			err = errors.New("it is cut short, and what comes before is copied")
		}
		if err != nil {
			return fmt.Errorf("reading a tar from stdin: %v", err) //nolint:errorlint // an early end is no effect of the other side
		}
		if err := takeIn(from, to, h, dirs, notes); err != nil {
			return err
		}
	}
}

// takeIn writes a file of another program's tar stream to a copy, behind the directories that lead to the file.
func takeIn(from io.Reader, to *tar.Writer, h *tar.Header, dirs map[string]bool, notes io.Writer) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeChar, tar.TypeBlock:
		fmt.Fprintf(notes, "left out %s: it is a device\n", h.Name)
		return nil
	case tar.TypeDir:
		if name == "." {
			return nil // what is there stays as it is
		}
		dirs[name] = true
	case tar.TypeLink:
		h.Linkname = path.Clean(strings.TrimLeft(h.Linkname, "/"))
	}
	if err := addParents(to, dirs, path.Dir(name)); err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname, h.Format, h.PAXRecords = name, "", "", tar.FormatPAX, nil
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	if h.Typeflag == tar.TypeGNUSparse {
		h.Typeflag = tar.TypeReg
	}
	if err := to.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(to, from)
	return err
}

// addParents writes dir, and the directories that lead there, unless they were written before.
func addParents(to *tar.Writer, dirs map[string]bool, dir string) error {
	if dirs[dir] || dir == "/" {
		return nil
	}
	if dir != "." {
		if err := addParents(to, dirs, path.Dir(dir)); err != nil {
			return err
		}
	}
	dirs[dir] = true
	return to.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Now(), Format: tar.FormatPAX})
}
