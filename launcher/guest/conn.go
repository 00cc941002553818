package guest

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// AskTimeout limits each question to a systemd. A systemd frozen after an error of its own still has its socket.
const AskTimeout = 5 * time.Second

// Conn is a connection to a systemd, of a box or of the host.
type Conn struct {
	*systemdbus.Conn
	end context.CancelFunc
}

// Connect connects to a systemd by dial, within AskTimeout. life is the context of the connection's whole life: D-Bus
// has no time limit for connecting, but the end of life closes a half-made connection. The error is dial's, or the
// cause of the end of ctx.
func Connect(ctx context.Context, dial func(life context.Context) (*systemdbus.Conn, error)) (Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	life, end := context.WithCancel(context.Background())
	defer context.AfterFunc(ctx, end)()
	conn, err := dial(life)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		end()
		return Conn{}, err
	}
	return Conn{conn, end}, nil
}

// OverOne returns a connection to a systemd over the one D-Bus connection that dial makes, authenticated by uid, and without
// Hello, because no bus is behind systemd's own socket. The library dials twice, to hear signals apart from answers; nobody
// here listens for more signals than the ends of jobs, and to connect to a box takes a process.
func OverOne(dial func() (*dbus.Conn, error)) (*systemdbus.Conn, error) {
	return systemdbus.NewConnection(sync.OnceValues(func() (*dbus.Conn, error) {
		conn, err := dial()
		if err != nil {
			return nil, err
		}
		if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}))
}

// Close ends the connection.
func (c Conn) Close() {
	c.Conn.Close()
	c.end()
}
