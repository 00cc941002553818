package units

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/guest"
	"boxrun/launcher/process"
)

// Run makes the host's systemd run the command line as the box's transient service.
func Run(ctx context.Context, s *box.Store, b *box.Box, c *apptainer.Command, argv []string) error {
	properties, err := propertiesOf(s, b, argv)
	if err != nil {
		return err
	}
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	stderr, err := memoryFile("stderr of apptainer")
	if err != nil {
		host.Close()
		return err
	}
	properties = append(properties, property("StandardErrorFileDescriptor", dbus.UnixFD(stderr.Fd())))
	done := make(chan string, 1)
	if err := host.startTransient(ctx, Transient(c.Name), properties, done); err != nil {
		host.Close()
		return errors.Join(err, stderr.Close())
	}
	left, leave := context.WithCancel(context.Background())
	c.Leave = leave
	go func() {
		defer leave()
		follow(ctx, left, s, c, host, stderr, done)
	}()
	return nil
}

// memoryFile returns a file without a name. A memfd, not a pipe: the service keeps the file as stderr of its later
// commands, and they would die of SIGPIPE on a pipe, because nobody reads any more.
func memoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// startTransient starts a transient service. done receives the result of the job. A service of the same name, left by a
// box with lost state, is stopped first.
func (h *Host) startTransient(ctx context.Context, unit string, properties []systemdbus.Property, done chan<- string) error {
	for began := time.Now(); ; {
		err := h.Ask(ctx, func(ctx context.Context) error {
			_, err := h.StartTransientUnitContext(ctx, unit, "fail", properties, done)
			return err
		})
		if !isBusError(err, "UnitExists") || time.Since(began) > unitTimeout {
			return fault.Wrap("starting "+unit, err)
		}
		if err := h.stop(ctx, unit).wait(ctx); err != nil {
			return err
		}
		if err := process.Sleep(ctx, 5*time.Millisecond); err != nil { // until systemd forgets the service
			return err
		}
	}
}

// follow waits for the end of the command line, a job of systemd's, or until left ends. follow stores the outcome and
// the command line's stderr in c.
func follow(ctx, left context.Context, s *box.Store, c *apptainer.Command, host *Host, stderr *os.File, done <-chan string) {
	defer close(c.Done)
	defer host.Close()
	defer stderr.Close()
	result, err := awaitJob(ctx, left, s, c, host, done)
	if err == nil && result != "done" {
		err = fmt.Errorf("%s: %s", Transient(c.Name), result)
	}
	c.Err = err
	_, _ = io.Copy(c.Stderr, io.NewSectionReader(stderr, 0, 1<<20)) // a part is better than nothing
}

// awaitJob returns the result of the start. When ctx ends, awaitJob kills the command line. When systemd goes away
// meanwhile, as it does to execute itself anew, awaitJob looks at the processes of the start instead.
func awaitJob(ctx, left context.Context, s *box.Store, c *apptainer.Command, host *Host, done <-chan string) (string, error) {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case result := <-done:
			return result, nil
		case <-left.Done():
			return "done", nil
		case <-ctx.Done():
			if left.Err() != nil {
				return "done", nil // both have ended; the first to end counts
			}
			after, cancel := context.WithTimeout(context.WithoutCancel(ctx), guest.AskTimeout)
			defer cancel()
			err := host.KillUnitWithTarget(after, Transient(c.Name), systemdbus.Control, int32(syscall.SIGKILL))
			return "", errors.Join(context.Cause(ctx), ignoreNoUnit(err))
		case <-look.C:
			if !host.Connected() {
				return "done", apptainer.AwaitOrEnd(ctx, s.Conf(), c.Name, apptainer.OrphanTimeout)
			}
		}
	}
}
