package guest

import (
	"context"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"
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

// Close ends the connection.
func (c Conn) Close() {
	c.Conn.Close()
	c.end()
}
