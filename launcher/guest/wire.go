package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The format of D-Bus messages, as far as a guard looks: "Message Format" and "Marshaling" of the D-Bus specification.

const headSize = 16 // the fixed part of a header, with the length of the fields

// The types of messages that answer.
const (
	typeAnswer = 2
	typeError  = 3
)

// message is what a guard wants to know of a message.
type message struct {
	kind         byte
	serial       uint32
	order        binary.ByteOrder
	member, name string // the method, or the name of an error
	answers      uint32 // the serial of the question
	signature    string
	body         []byte
}

// parseMessage parses a whole message. The body is not looked at.
func parseMessage(raw []byte) (message, error) {
	var m message
	if len(raw) < headSize {
		return m, errors.New("less than a message")
	}
	order, err := orderOf(raw)
	if err != nil {
		return m, err
	}
	fields, body := int64(order.Uint32(raw[12:])), int64(order.Uint32(raw[4:]))
	begin := headSize + aligned(fields, 8)
	if raw[3] != 1 || begin+body != int64(len(raw)) {
		return m, errors.New("a message of another version or length")
	}
	m = message{kind: raw[1], serial: order.Uint32(raw[8:]), order: order, body: raw[begin:]}
	w := &wire{bytes: raw[headSize : headSize+fields], order: order}
	for w.err == nil && w.at < len(w.bytes) {
		w.align(8)
		m.take(w)
	}
	return m, w.err
}

// take parses a field of the header.
func (m *message) take(w *wire) {
	code := w.fixed(1, "y")
	kinds := map[uint64]string{1: "o", 2: "s", 3: "s", 4: "s", 5: "u", 6: "s", 7: "s", 8: "g"}
	if kind := w.signature(); kinds[code] == "" || kind != kinds[code] {
		w.fail("a header with a field %d of type %q", code, kind)
	}
	switch code {
	case 3:
		m.member = w.text()
	case 4:
		m.name = w.text()
	case 5:
		m.answers = uint32(w.fixed(4, "u"))
	case 8:
		m.signature = w.signature()
	default:
		w.one(kinds[code])
	}
}

// wire walks values of known types through bytes. After the first error the walk goes nowhere.
type wire struct {
	bytes []byte
	order binary.ByteOrder
	at    int
	err   error
}

func (w *wire) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func aligned(n, to int64) int64 { return (n + to - 1) / to * to }

func (w *wire) align(to int) { w.skip(int(aligned(int64(w.at), int64(to))) - w.at) }

// skip returns the next n bytes.
func (w *wire) skip(n int) []byte {
	if n < 0 || n > len(w.bytes)-w.at {
		w.fail("a message ends too early")
	}
	if w.err != nil {
		return make([]byte, 8)
	}
	w.at += n
	return w.bytes[w.at-n : w.at]
}

// fixed returns a number of 1, 2, 4 or 8 bytes.
func (w *wire) fixed(size int, kind string) uint64 {
	w.align(size)
	part := w.skip(size)
	switch size {
	case 1:
		return uint64(part[0])
	case 2:
		return uint64(w.order.Uint16(part))
	case 8:
		return w.order.Uint64(part)
	}
	n := uint64(w.order.Uint32(part))
	if kind == "b" && n > 1 {
		w.fail("a boolean of %d", n)
	}
	return n
}

// text returns a string.
func (w *wire) text() string { return w.ended(int(w.fixed(4, "u"))) }

// signature returns a signature, unchecked.
func (w *wire) signature() string { return w.ended(int(w.fixed(1, "y"))) }

// ended returns n bytes with a zero after them.
func (w *wire) ended(n int) string {
	text := w.skip(n)
	zero := w.skip(1)
	if w.err == nil && (zero[0] != 0 || bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text)) {
		w.fail("a string that is none")
	}
	return string(text)
}

// objectPath matches the path of an object.
var objectPath = regexp.MustCompile(`^/$|^(/[A-Za-z0-9_]+)+$`)

// sizeOf returns the size of a type of numbers; 0 for other types.
func sizeOf(kind byte) int {
	return map[byte]int{'y': 1, 'b': 4, 'n': 2, 'q': 2, 'i': 4, 'u': 4, 'x': 8, 't': 8, 'd': 8}[kind]
}

// all walks values of several types.
func (w *wire) all(signature string) {
	for signature != "" && w.err == nil {
		signature = signature[w.one(signature):]
	}
}

// one walks a value of the first type of a signature, and returns the length of the type. Signatures are those of this
// package.
func (w *wire) one(signature string) int {
	switch kind := signature[0]; kind {
	case 's':
		w.text()
	case 'o':
		if path := w.text(); !objectPath.MatchString(path) {
			w.fail("a path of an object that is none")
		}
	case 'v':
		inner := w.signature()
		if inner != "as" && (len(inner) != 1 || sizeOf(inner[0]) == 0 && inner != "s" && inner != "o") {
			w.fail("a value of type %q", inner)
			break
		}
		w.one(inner)
	case 'a':
		return 1 + w.array(signature[1:])
	case '(':
		end := strings.IndexByte(signature, ')')
		w.align(8)
		w.all(signature[1:end])
		return end + 1
	default:
		w.fixed(sizeOf(kind), string(kind))
	}
	return 1
}

// array walks the elements of an array, which are structures, and returns the length of the type of an element.
func (w *wire) array(signature string) int {
	length := int(w.fixed(4, "u"))
	w.align(8)
	if length > len(w.bytes)-w.at {
		w.fail("an array that is too long")
	}
	for end := w.at + length; w.at < end && w.err == nil; {
		w.one(signature)
		if w.at > end {
			w.fail("an array ends within an element")
		}
	}
	return strings.IndexByte(signature, ')') + 1
}
