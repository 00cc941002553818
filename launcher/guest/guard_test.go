package guest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// sayBytes returns a message of a systemd, as bytes.
func sayBytes(t *testing.T, kind dbus.Type, headers map[dbus.HeaderField]dbus.Variant, body ...any) []byte {
	t.Helper()
	m := &dbus.Message{Type: kind, Headers: headers, Body: body}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var out bytes.Buffer
	if err := m.EncodeTo(&out, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func answerTo(serial uint32) map[dbus.HeaderField]dbus.Variant {
	return map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(serial)}
}

type listedJob struct {
	ID                uint32
	Unit, Kind, State string
	Job, Path         dbus.ObjectPath
}

// A line that never ends is an error as soon as the line is too long.
func TestGuardOfALineWithoutEnd(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer far.Close()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	go func() {
		for text := bytes.Repeat([]byte{'x'}, 1<<16); ; {
			if _, err := far.Write(text); err != nil {
				return
			}
		}
	}()
	defer time.AfterFunc(2*time.Second, func() { near.Close() }).Stop()
	_, err := bufio.NewReader(newGuard(near)).ReadBytes('\n')
	if want := "it says a line without end"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %v", err, want)
	}
}

// playSystemd authenticates a client, and answers its first question with what is given for the serial of the question.
func playSystemd(t *testing.T, c net.Conn, ok string, answer func(serial uint32) []byte) {
	t.Helper()
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch strings.Trim(line, "\x00\r\n") {
		case "BEGIN":
			raw, err := readMessage(in)
			if err != nil {
				return
			}
			_, _ = c.Write(answer(binary.LittleEndian.Uint32(raw[8:])))
			_, _ = in.ReadByte() // until the client closes
			return
		case "AUTH":
			_, _ = c.Write([]byte("REJECTED EXTERNAL\r\n"))
		default:
			_, _ = c.Write([]byte(ok + "\r\n"))
		}
	}
}

// askPlayed asks a played systemd for its jobs.
func askPlayed(t *testing.T, ok string, answer func(serial uint32) []byte) error {
	t.Helper()
	near, far := net.Pipe()
	go playSystemd(t, far, ok, answer)
	conn, err := dbus.NewConn(newGuard(near))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal("0")}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var jobs []listedJob
	return conn.Object("", "/org/freedesktop/systemd1").CallWithContext(ctx, "org.freedesktop.systemd1.Manager.ListJobs", 0).Store(&jobs)
}

const authenticated = "OK 0123456789abcdef0123456789abcdef"

// What is no well-formed answer to a question ends the connection, and reaches the library in no case.
func TestGuard(t *testing.T) {
	jobs := []listedJob{{1, "a.service", "start", "running", "/a", "/b"}}
	good := func(serial uint32) []byte { return sayBytes(t, dbus.TypeMethodReply, answerTo(serial), jobs) }
	changed := func(change func(raw []byte) []byte) func(uint32) []byte {
		return func(serial uint32) []byte { return change(good(serial)) }
	}
	signal := func(body ...any) []byte {
		return sayBytes(t, dbus.TypeSignal, map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/")), dbus.FieldMember: dbus.MakeVariant("JobRemoved"),
			dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.systemd1.Manager"),
		}, body...)
	}
	for name, c := range map[string]struct {
		answer func(serial uint32) []byte
		fine   bool
	}{
		"an answer":                 {good, true},
		"a signal before it":        {func(s uint32) []byte { return append(signal("x"), good(s)...) }, true},
		"a signal of a wrong type":  {func(s uint32) []byte { return append(signal(uint32(7)), good(s)...) }, true},
		"a signal of nothing":       {func(s uint32) []byte { return append(signal(), good(s)...) }, true},
		"no jobs":                   {func(s uint32) []byte { return sayBytes(t, dbus.TypeMethodReply, answerTo(s), []listedJob{}) }, true},
		"another question's":        {func(s uint32) []byte { return good(s + 1) }, false},
		"text for a list":           {func(s uint32) []byte { return sayBytes(t, dbus.TypeMethodReply, answerTo(s), "jobs") }, false},
		"nothing for a list":        {func(s uint32) []byte { return sayBytes(t, dbus.TypeMethodReply, answerTo(s)) }, false},
		"a list of something else":  {func(s uint32) []byte { return sayBytes(t, dbus.TypeMethodReply, answerTo(s), []string{"a"}) }, false},
		"two answers in one":        {func(s uint32) []byte { return sayBytes(t, dbus.TypeMethodReply, answerTo(s), jobs, jobs) }, false},
		"an error of numbers":       {func(s uint32) []byte { return errorTo(t, s, uint32(1)) }, false},
		"no byte order":             {changed(func(raw []byte) []byte { raw[0] = 'x'; return raw }), false},
		"another version":           {changed(func(raw []byte) []byte { raw[3] = 2; return raw }), false},
		"a length of gigabytes":     {changed(func(raw []byte) []byte { copy(raw[4:8], "\xff\xff\xff\xff"); return raw }), false},
		"fields of gigabytes":       {changed(func(raw []byte) []byte { copy(raw[12:16], "\xff\xff\xff\x7f"); return raw }), false},
		"a list longer than all":    {changed(func(raw []byte) []byte { copy(bodyOf(raw), "\xff\xff\x00\x00"); return raw }), false},
		"a list that ends within":   {changed(func(raw []byte) []byte { bodyOf(raw)[0] -= 3; return raw }), false},
		"a string longer than all":  {changed(func(raw []byte) []byte { bodyOf(raw)[12] = 200; return raw }), false},
		"a string without an end":   {changed(func(raw []byte) []byte { return bytes.Replace(raw, []byte("start\x00"), []byte("startx"), 1) }), false},
		"a string that is no UTF-8": {changed(func(raw []byte) []byte { return bytes.Replace(raw, []byte("start"), []byte("st\xffrt"), 1) }), false},
		"a path that is none":       {changed(func(raw []byte) []byte { return bytes.Replace(raw, []byte("/b\x00"), []byte("b/\x00"), 1) }), false},
		"a header of another type": {changed(func(raw []byte) []byte {
			return bytes.Replace(raw, []byte("\x05\x01u\x00"), []byte("\x05\x01i\x00"), 1)
		}), false},
		"a header in a header": {changed(func(raw []byte) []byte {
			return bytes.Replace(raw, []byte("\x05\x01u\x00"), []byte("\x05\x01v\x00"), 1)
		}), false},
		"a signature that is none": {changed(func(raw []byte) []byte { return bytes.Replace(raw, []byte("a(usssoo)"), []byte("a(usssooo"), 1) }), false},
		"half a message":           {changed(func(raw []byte) []byte { return raw[:len(raw)-9] }), false},
		"no message":               {func(uint32) []byte { return []byte(strings.Repeat("hello\n", 1000)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := askPlayed(t, authenticated, c.answer)
			if (err == nil) != c.fine || errors.As(err, new(dbus.Error)) {
				t.Errorf("got %v; an answer is %v", err, c.fine)
			}
		})
	}
}

// bodyOf returns the body of a message.
func bodyOf(raw []byte) []byte {
	return raw[headSize+aligned(int64(binary.LittleEndian.Uint32(raw[12:])), 8):]
}

func errorTo(t *testing.T, serial uint32, body ...any) []byte {
	t.Helper()
	headers := answerTo(serial)
	headers[dbus.FieldErrorName] = dbus.MakeVariant("org.freedesktop.DBus.Error.Failed")
	return sayBytes(t, dbus.TypeError, headers, body...)
}

func TestGuardPassesErrors(t *testing.T) {
	t.Parallel()
	err := askPlayed(t, authenticated, func(serial uint32) []byte { return errorTo(t, serial, "no such unit") })
	if !errors.As(err, new(dbus.Error)) {
		t.Errorf("got %v, want an error of D-Bus", err)
	}
}

func TestGuardOfAuthentication(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"OK", "OK x", "", "DATA 00", "AGREE_UNIX_FD", "OK " + strings.Repeat("0", 1<<16), strings.Repeat("x ", 1<<16)} {
		if err := askPlayed(t, line, nil); err == nil {
			t.Errorf("%.20q: no error", line)
		}
	}
}
