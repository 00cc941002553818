package guest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"sync"
	"time"
)

// guard stands between the D-Bus library and the systemd of a box. Root in the box can play this systemd, and the library
// trusts its peer: a signal of the wrong type ends the whole process. The guard hands on nothing but well-formed answers
// to questions of this side, in full, and drops signals and calls. The first answer of another kind ends the connection.
// A peer that takes nothing, or says more than a systemd has to say, ends the connection as well.
type guard struct {
	net.Conn
	in   *bufio.Reader
	rest []byte // of the last line or answer, not read by the library yet

	mu        sync.Mutex
	talking   bool              // the library is authenticated: messages follow
	questions map[uint32]string // the method of each question without an answer, by serial
}

func newGuard(c net.Conn) *guard {
	return &guard{Conn: c, in: bufio.NewReader(c), questions: map[uint32]string{}}
}

// The most a box may say at once: a message, a line before the messages. A thousand units take 300 KB.
const (
	maxMessage = 4 << 20
	maxLine    = 200
)

// signatureOf returns the signature of the right answer to a method. A box is asked nothing else.
func signatureOf(method string) (signature string, known bool) {
	signature, known = map[string]string{
		"AddMatch":            "", // by the library itself; a systemd without a bus answers with an error
		"Get":                 "v",
		"ListJobs":            "a(usssoo)",
		"ListUnits":           "a(ssssssouso)",
		"ListUnitsByNames":    "a(ssssssouso)",
		"ListUnitsByPatterns": "a(ssssssouso)",
		"ListUnitsFiltered":   "a(ssssssouso)",
		"TryRestartUnit":      "o",
	}[method]
	return signature, known
}

// Write notes questions, and gives the peer AskTimeout to take them.
func (g *guard) Write(p []byte) (int, error) {
	if err := g.note(p); err != nil {
		return 0, err
	}
	if err := g.SetWriteDeadline(time.Now().Add(AskTimeout)); err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// note keeps the method and the serial of a question: the library writes a message at once.
func (g *guard) note(p []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.talking {
		g.talking = bytes.HasPrefix(p, []byte("BEGIN"))
		return nil
	}
	m, err := parseMessage(p)
	if err != nil {
		return err
	}
	if _, known := signatureOf(m.member); !known {
		return fmt.Errorf("no answer of a box to %q is known", m.member)
	}
	g.questions[m.serial] = m.member
	return nil
}

// Read gives the library the next line of the authentication, or the next answer.
func (g *guard) Read(p []byte) (int, error) {
	if len(g.rest) == 0 {
		var err error
		if g.rest, err = g.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

func (g *guard) next() ([]byte, error) {
	g.mu.Lock()
	talking := g.talking
	g.mu.Unlock()
	if !talking {
		return g.line()
	}
	for {
		raw, err := readMessage(g.in)
		if err != nil {
			return nil, err
		}
		if kind := raw[1]; kind == typeAnswer || kind == typeError {
			return raw, g.checkAnswer(raw)
		}
	}
}

// authLine matches what a server says in an authentication.
var authLine = regexp.MustCompile(`^(OK [0-9a-f]{32}|REJECTED( [A-Z0-9_]+)*|DATA|ERROR)\r\n$`)

func (g *guard) line() ([]byte, error) {
	line, err := g.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) { // the library's own reader would take the error for its own, and go on for ever
		err = errors.New("it says a line without end")
	}
	if err != nil {
		return nil, err
	}
	if len(line) > maxLine || !authLine.Match(line) {
		return nil, errors.New("it authenticates in no known way")
	}
	return bytes.Clone(line), nil
}

// checkAnswer returns an error for whatever is no answer to a question that waits for one.
func (g *guard) checkAnswer(raw []byte) error {
	m, err := parseMessage(raw)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	member, asked := g.questions[m.answers]
	if !asked {
		return errors.New("an answer to no question")
	}
	delete(g.questions, m.answers)
	want, _ := signatureOf(member)
	if m.kind == typeError {
		if m.name == "" {
			return errors.New("an error without a name")
		}
		if want = "s"; m.signature == "" {
			want = ""
		}
	}
	if m.signature != want {
		return fmt.Errorf("%q is answered with %q", member, m.signature)
	}
	body := &wire{bytes: m.body, order: m.order}
	body.all(want)
	if body.at != len(m.body) {
		body.fail("bytes are left over")
	}
	return body.err
}

// readMessage reads a whole message, of at most maxMessage bytes.
func readMessage(in io.Reader) ([]byte, error) {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	order, err := orderOf(head)
	if err != nil {
		return nil, err
	}
	size := headSize + aligned(int64(order.Uint32(head[12:])), 8) + int64(order.Uint32(head[4:]))
	if size > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	raw := make([]byte, size)
	copy(raw, head)
	_, err = io.ReadFull(in, raw[headSize:])
	return raw, err
}

func orderOf(head []byte) (binary.ByteOrder, error) {
	switch head[0] {
	case 'l':
		return binary.LittleEndian, nil
	case 'B':
		return binary.BigEndian, nil
	}
	return nil, errors.New("a message in no byte order")
}
