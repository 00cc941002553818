package enter

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A file with holes travels as its data alone. The records say where the data belongs, and how large the file is:
// archive/tar writes no sparse files itself.
const (
	recordSpans = "BOXRUN.spans" // "FROM:LENGTH,FROM:LENGTH"
	recordSize  = "BOXRUN.size"
)

// maxSpans limits the spans of a file: archive/tar reads records of a megabyte at most. A file with more travels whole.
const maxSpans = 10000

// span is a part of a file that has data.
type span struct{ from, length int64 }

// spans are the data of a file of the given size, in order.
type spans struct {
	list []span
	size int64
}

// spansOf returns the data of an open file. A file system that does not tell has data everywhere.
func spansOf(f *os.File, size int64) spans {
	whole := spans{[]span{{0, size}}, size}
	var list []span
	for at := int64(0); at < size; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if err != nil || len(list) == maxSpans {
			return whole
		}
		at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
		if err != nil {
			return whole
		}
		if at = min(at, size); at > from {
			list = append(list, span{from, at - from})
		}
	}
	return spans{list, size}
}

// describe notes the spans in the header of a file, unless the file has no holes.
func (s spans) describe(h *tar.Header) {
	if len(s.list) == 1 && s.list[0] == (span{0, s.size}) || s.size == 0 {
		return
	}
	words := make([]string, len(s.list))
	h.Size = 0
	for i, part := range s.list {
		words[i] = fmt.Sprintf("%d:%d", part.from, part.length)
		h.Size += part.length
	}
	h.PAXRecords = map[string]string{recordSize: fmt.Sprint(s.size)}
	if len(words) > 0 {
		h.PAXRecords[recordSpans] = strings.Join(words, ",")
	}
}

// partsOf reads from the header of a file what describe noted there: a file without a note is whole.
func partsOf(h *tar.Header) (spans, error) {
	text, sparse := h.PAXRecords[recordSize]
	if !sparse {
		return spans{[]span{{0, h.Size}}, h.Size}, nil
	}
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil || size < 0 {
		return spans{}, fmt.Errorf("a file of size %q", text)
	}
	data := spans{size: size}
	at := int64(0)
	for word := range strings.SplitSeq(h.PAXRecords[recordSpans], ",") {
		var part span
		if word == "" {
			continue
		}
		_, err := fmt.Sscanf(word, "%d:%d", &part.from, &part.length)
		if err != nil || part.from < at || part.length < 0 || part.length > size-part.from {
			return spans{}, fmt.Errorf("a file with data at %q", word)
		}
		at = part.from + part.length
		data.list = append(data.list, part)
	}
	return data, nil
}

// fill writes the content of a stream into a new file, with holes where the sender had holes.
func fill(f *os.File, stream io.Reader, h *tar.Header) error {
	data, err := partsOf(h)
	if err != nil {
		return err
	}
	for _, part := range data.list {
		if _, err := io.CopyN(io.NewOffsetWriter(f, part.from), stream, part.length); err != nil {
			return err
		}
	}
	return f.Truncate(data.size)
}

// expand writes the content of a stream to out, with zeros where the sender had holes.
func (s spans) expand(out io.Writer, stream io.Reader) error {
	at := int64(0)
	for _, part := range append(s.list, span{s.size, 0}) {
		if _, err := io.CopyN(out, zeros{}, part.from-at); err != nil {
			return err
		}
		if _, err := io.CopyN(out, stream, part.length); err != nil {
			return err
		}
		at = part.from + part.length
	}
	return nil
}

// zeros is a reader of zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
