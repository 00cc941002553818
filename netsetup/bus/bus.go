package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

// callTimeout bounds each call; firewalld's reload of many rules takes seconds.
const callTimeout = 30 * time.Second

// findTimeout bounds questions to D-Bus itself: D-Bus answers at once, or hangs.
const findTimeout = 5 * time.Second

// Bus is the connection to the system bus, made at the first question and kept. The zero Bus is ready for use, by a
// single goroutine.
type Bus struct{ conn *dbus.Conn }

// Close closes the connection.
func (b *Bus) Close() {
	if b.conn != nil {
		_ = b.conn.Close() // nothing is left to be said
	}
}

// Service is a running service of this network namespace.
type Service struct {
	conn *dbus.Conn
	name string
}

// Find returns the service with the name, and nil where none runs. Where D-Bus does not answer, nobody knows whether the
// service runs, and Find returns an error.
func (b *Bus) Find(name string) (*Service, error) { return b.find(name, findTimeout) }

// Start is Find for a service that D-Bus starts when asked to.
func (b *Bus) Start(name string) (*Service, error) {
	s, err := b.Find(name)
	if s != nil || err != nil || b.conn == nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), findTimeout)
	defer cancel()
	const flags = uint32(0)
	err = b.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.StartServiceByName", 0, name, flags).Err
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return b.Find(name)
}

func (b *Bus) find(name string, limit time.Duration) (*Service, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("asking for %s: %w", name, errBusHangs))
	defer cancel()
	if b.conn == nil || !b.conn.Connected() {
		conn, err := dialBus(ctx, dbus.ConnectSystemBus)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, nil //nolint:nilerr // a host without a bus has no services
		}
		b.conn = conn
	}
	runs, err := runsHere(ctx, b.conn, name)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil || !runs {
		return nil, err
	}
	return &Service{b.conn, name}, nil
}

// Call calls a method and stores the answer in result, unless result is nil.
func (s *Service) Call(path string, result any, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	call := s.conn.Object(s.name, dbus.ObjectPath(path)).CallWithContext(ctx, method, 0, args...)
	if call.Err == nil && result != nil {
		call.Err = call.Store(result)
	}
	if call.Err != nil {
		return fmt.Errorf("calling %s: %w", method, call.Err)
	}
	return nil
}

// errBusHangs is the error of a D-Bus that takes a connection and then falls silent.
var errBusHangs = errors.New("D-Bus does not answer")

// dialBus connects to a bus by dial, such as dbus.ConnectSystemBus, before ctx ends. The end of ctx after dialBus has
// returned does not matter to the connection. The library has no time limit for connecting, but closes the connection,
// and so ends any wait, when the context of the connection's whole life ends.
func dialBus(ctx context.Context, dial func(...dbus.ConnOption) (*dbus.Conn, error)) (*dbus.Conn, error) {
	life, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	bus, err := dial(dbus.WithContext(life))
	if err == nil && !stop() {
		_ = bus.Close() // too late
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, err
	}
	return bus, nil
}

// runsHere reports whether a service is on the bus and looks after this network namespace. The bus of containers shows
// the host's services, too, where containers see the host's bus.
func runsHere(ctx context.Context, bus *dbus.Conn, name string) (bool, error) {
	ask := func(question string, answer any) error {
		return bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus."+question, 0, name).Store(answer)
	}
	var owned bool
	if err := ask("NameHasOwner", &owned); err != nil || !owned {
		return false, err
	}
	var pid uint32
	if err := ask("GetConnectionUnixProcessID", &pid); err != nil {
		return false, err
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return false, ignoreAbsent(err) // the process is of another PID namespace, or has just ended
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	return ours == theirs, err
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
