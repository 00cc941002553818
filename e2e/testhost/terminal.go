package testhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"boxrun/launcher/process"

	"golang.org/x/sys/unix"
)

// Terminal is a command running on a terminal of the host, with a person at the terminal.
type Terminal struct {
	pty  *os.File
	cmd  *exec.Cmd
	done chan struct{} // closed when all output has been read

	mu   sync.Mutex
	text strings.Builder // shown, and not yet taken by Expect
}

// Terminal starts a command of the host on a new terminal of rows and columns. The caller must call Wait in any case.
func (h *Host) Terminal(ctx context.Context, rows, columns uint16, argv ...string) (*Terminal, error) {
	pty, tty, err := h.openTerminal()
	if err != nil {
		return nil, fmt.Errorf("opening a terminal of %s: %w", h.name, err)
	}
	defer tty.Close()
	// The session is made on the host. In a session made outside, a shell's job control would see process group 0.
	cmd := h.Command(ctx, append([]string{"setsid", "--ctty", "--wait"}, argv...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	t := &Terminal{pty: pty, cmd: cmd, done: make(chan struct{})}
	if err := errors.Join(t.Resize(rows, columns), cmd.Start()); err != nil {
		pty.Close()
		return nil, err
	}
	go t.read()
	return t, nil
}

// openTerminal opens a new terminal of the host's own devpts, so that "tty" finds its name there.
func (h *Host) openTerminal() (pty, tty *os.File, err error) {
	pty, err = os.OpenFile(h.Inside("/dev/pts/ptmx"), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(int(pty.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, errors.Join(err, pty.Close())
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, pty.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, nil, errors.Join(errno, pty.Close())
	}
	return pty, os.NewFile(peer, "tty"), nil
}

// read collects what the terminal shows, until the last process with the terminal open is gone.
func (t *Terminal) read() {
	defer close(t.done)
	chunk := make([]byte, 4096)
	for {
		n, err := t.pty.Read(chunk)
		t.mu.Lock()
		t.text.Write(chunk[:n])
		t.mu.Unlock()
		if err != nil {
			return // EIO: nobody has the terminal open any more
		}
	}
}

// Type sends keys unchanged.
func (t *Terminal) Type(keys string) error {
	_, err := t.pty.WriteString(keys)
	return err
}

// Resize changes the size of the terminal.
func (t *Terminal) Resize(rows, columns uint16) error {
	return unix.IoctlSetWinsize(int(t.pty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
}

// Expect waits until the terminal shows text, then forgets everything up to the end of text. The error after within
// shows the text on the terminal.
func (t *Terminal) Expect(text string, within time.Duration) error {
	for deadline := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		t.mu.Lock()
		shown := t.text.String()
		before, after, found := strings.Cut(shown, text)
		if found {
			t.text.Reset()
			t.text.WriteString(after)
		}
		t.mu.Unlock()
		if found {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waiting %v for %q on the terminal, which shows:\n%s", within, text, before)
		}
	}
}

// Wait returns how the command ended. Stdout of the result is the text not taken by Expect. A command that runs longer
// than within is killed, and this is an error.
func (t *Terminal) Wait(within time.Duration) (Result, error) {
	defer t.pty.Close()
	timer := time.AfterFunc(within, func() { _ = t.cmd.Cancel() })
	err := t.cmd.Wait()
	if !timer.Stop() {
		return Result{}, fmt.Errorf("waiting %v for %s: it did not end", within, strings.Join(t.cmd.Args, " "))
	}
	select {
	case <-t.done:
	case <-time.After(time.Second): // a daemon still has the terminal open
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return Result{Stdout: t.text.String(), Code: process.ExitCode(t.cmd.ProcessState)}, err
}
