package bus

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHangingBus has buses that fall silent: whether firewalld runs is not known then, and nobody waits for ever.
func TestHangingBus(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"at once":         func(net.Conn) {},
		"after the login": login,
	} {
		t.Run(name, func(t *testing.T) {
			serveBus(t, serve)
			began := time.Now()
			f, err := new(Bus).find(FirewalldName, 200*time.Millisecond)
			if got, want := fmt.Sprint(f, err), "<nil> asking for org.fedoraproject.FirewallD1: D-Bus does not answer"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestNoBus wants no firewalld where there is no bus, and no complaint.
func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "absent"))
	if f, err := new(Bus).Firewalld(); f != nil || err != nil {
		t.Errorf("got %v, %v, want neither firewalld nor an error", f, err)
	}
}

// serveBus makes a system bus that serves its clients that way, and keeps their connections open.
func serveBus(t *testing.T, serve func(net.Conn)) {
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go serve(conn)
		}
	}()
}

// login takes a client in, and hears no more of what it says.
func login(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		switch line := strings.TrimLeft(lines.Text(), "\x00"); {
		case line == "AUTH":
			fmt.Fprint(conn, "REJECTED EXTERNAL\r\n")
		case strings.HasPrefix(line, "AUTH "):
			fmt.Fprint(conn, "OK 1234deadbeef\r\n")
		case strings.HasPrefix(line, "DATA"):
			fmt.Fprint(conn, "OK 1234deadbeef\r\n")
		case line == "NEGOTIATE_UNIX_FD":
			fmt.Fprint(conn, "AGREE_UNIX_FD\r\n")
		case line == "BEGIN":
			return
		}
	}
}
