package guest

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"boxrun/launcher/say"
	"boxrun/launcher/testkit"
)

// A systemd that boots is asked for its state alone, but for somebody who watches, now and then, and at the end of the wait.
func TestABootIsAskedLittle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		live func(string)
		last bool
		want string // the questions of three looks
	}{
		"nobody watches":      {nil, false, "Get Get Get"},
		"somebody watches":    {func(string) {}, false, "Get ListJobs Get Get"},
		"the end of the wait": {nil, true, "Get ListJobs Get ListJobs Get ListJobs"},
	} {
		questions := make(chan string, 99)
		conn, err := systemdbus.NewConnection(func() (*dbus.Conn, error) { // one for questions, one for signals
			near, far := net.Pipe()
			go playBoot(t, far, questions)
			conn, err := dbus.NewConn(newGuard(near))
			if err != nil {
				return nil, err
			}
			return conn, conn.Auth([]dbus.Auth{dbus.AuthExternal("0")})
		})
		if err != nil {
			t.Fatal(err)
		}
		w := &wait{live: say.NewLive(c.live), systemd: &Systemd{Conn{Conn: conn, end: func() {}}}, began: time.Now()}
		for range 3 {
			v := view{last: c.last}
			if err := w.lookBoot(t.Context(), &v); err != nil || len(v.unmet) == 0 {
				t.Errorf("%s: got %v, %v, want an unmet check", name, v.unmet, err)
			}
			if v.waiting != "" {
				w.live.Say(v.waiting)
			}
		}
		conn.Close()
		var got []string
		for len(questions) > 0 {
			got = append(got, <-questions)
		}
		testkit.WantText(t, name+": "+strings.Join(got, " "), name+": AddMatch "+c.want)
	}
}

// playBoot plays a systemd that starts its units, and notes the names of the questions.
func playBoot(t *testing.T, c net.Conn, questions chan<- string) {
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "BEGIN") {
			break
		}
		answer := authenticated
		if strings.Trim(line, "\x00\r\n") == "AUTH" {
			answer = "REJECTED EXTERNAL"
		}
		_, _ = c.Write([]byte(answer + "\r\n"))
	}
	for {
		raw, err := readMessage(in)
		if err != nil {
			return
		}
		m, err := dbus.DecodeMessage(bytes.NewReader(raw))
		if err != nil {
			return
		}
		member, _ := m.Headers[dbus.FieldMember].Value().(string)
		questions <- member
		if member == "Get" {
			_, _ = c.Write(sayBytes(t, dbus.TypeMethodReply, answerTo(m.Serial()), dbus.MakeVariant("starting")))
		} else {
			_, _ = c.Write(sayBytes(t, dbus.TypeMethodReply, answerTo(m.Serial()), []listedJob{}))
		}
	}
}
