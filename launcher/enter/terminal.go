package enter

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal ties the pty of one command to the terminal boxrun was called from.
type terminal struct {
	master *os.File
	screen *os.File // whose size the pty takes; nil: there is none, and the size stays 80x24
	saved  *term.State
	in     *os.File // what is typed, or piped; not closed
	out    io.Writer
}

// newTerminal readies master for a command and, where in is a terminal, puts that into raw mode: every key is for the
// box. Close undoes it.
func newTerminal(master, in *os.File, out io.Writer) (*terminal, error) {
	t := &terminal{master: master, screen: screenOf(in, out), in: in, out: out}
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		return nil, fmt.Errorf("setting the size of the box's terminal: %w", err)
	}
	if err := t.resize(); err != nil {
		return nil, err
	}
	if !isTerminal(in) {
		return t, nil
	}
	if err := copyModes(master, in); err != nil {
		return nil, err
	}
	saved, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("setting the terminal to raw mode: %w", err)
	}
	t.saved = saved
	return t, nil
}

// Close gives the caller's terminal its modes back and closes the master, which hangs the command up if it still runs.
// A second Close does nothing.
func (t *terminal) Close() error {
	t.hangUp()
	if t.saved == nil {
		return nil
	}
	err := term.Restore(int(t.in.Fd()), t.saved)
	t.saved = nil
	if err != nil && !errors.Is(err, unix.EIO) { // EIO: the caller's terminal is gone
		return fmt.Errorf("restoring the terminal: %w", err)
	}
	return nil
}

// hangUp tells the command that its terminal is gone: the kernel sends SIGHUP to its session.
func (t *terminal) hangUp() { t.master.Close() }

// resize gives the pty the size of the caller's terminal; the kernel tells whoever is in its foreground.
func (t *terminal) resize() error {
	if t.screen == nil {
		return nil
	}
	size, err := pty.GetsizeFull(t.screen)
	if err == nil && size.Rows > 0 && size.Cols > 0 { // serial lines say 0x0
		err = pty.Setsize(t.master, size)
	}
	if err != nil {
		return fmt.Errorf("giving the box's terminal the size of this one: %w", err)
	}
	return nil
}

// start begins to copy both ways. The channel is closed when the output cannot be copied any more: nobody has the
// box's side open, or out takes no more; then a command that still writes would wait for ever, so it is hung up.
func (t *terminal) start() (*input, <-chan struct{}, error) {
	in, err := startInput(t.in, t.master, func() error { return endOfFile(t.master) })
	if err != nil {
		return nil, nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := io.Copy(t.out, t.master); err != nil && !isEnd(err) {
			t.hangUp()
		}
	}()
	return in, done, nil
}

// isEnd says that reading a master ended as it should: EIO is how the kernel says that the other side was closed, a
// deadline is how drain stops the copying.
func isEnd(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, os.ErrDeadlineExceeded) }

const (
	drainQuiet = 100 * time.Millisecond // the kernel moves a pty's bytes in a worker, a little after the write
	drainMost  = 1 << 20                // more than a pty can hold: the rest is of processes that outlive the command
)

// drain copies what the command wrote before it ended, and closes the channel when that is done. Waiting for EIO alone
// would wait for every process it left behind on the terminal.
func (t *terminal) drain(copied <-chan struct{}) <-chan struct{} {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		if t.master.SetReadDeadline(time.Now()) == nil { // else hung up: nothing can be read any more
			<-copied
			t.copyRest()
		}
	}()
	return drained
}

func (t *terminal) copyRest() {
	buf := make([]byte, 32*1024)
	for total := 0; total < drainMost; {
		if t.master.SetReadDeadline(time.Now().Add(drainQuiet)) != nil {
			return
		}
		n, err := t.master.Read(buf)
		if n > 0 {
			if _, werr := t.out.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
		total += n
	}
}

// endOfFile tells the terminal's reader that no more input comes, as control-D at the keyboard does. It has to be
// said again and again: the first may only end a line that was begun, or be lost as a shell turns to raw mode.
func endOfFile(master *os.File) error {
	modes, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
	if err != nil {
		return os.NewSyscallError("TCGETS", err)
	}
	_, err = master.Write([]byte{modes.Cc[unix.VEOF]})
	return err
}

// copyModes gives the pty the erase character, UTF-8 editing and so on of the caller's terminal, as ssh does.
func copyModes(master, from *os.File) error {
	modes, err := unix.IoctlGetTermios(int(from.Fd()), unix.TCGETS)
	if err == nil {
		err = unix.IoctlSetTermios(int(master.Fd()), unix.TCSETS, modes)
	}
	if err != nil {
		return fmt.Errorf("giving the box's terminal the modes of this one: %w", err)
	}
	return nil
}

// screenOf gives the terminal that a person looks at: in, or else out, or else none.
func screenOf(in *os.File, out io.Writer) *os.File {
	if isTerminal(in) {
		return in
	}
	if f, ok := out.(*os.File); ok && isTerminal(f) {
		return f
	}
	return nil
}

func isTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// input copies a file that may block for ever, such as a terminal, and can be stopped all the same.
type input struct {
	wake, stopper *os.File // the two ends of a pipe; closing stopper ends the copying
	to            *os.File
	done          chan struct{}
}

const endAgain = 250 // milliseconds

// startInput copies from to to. From's end, or no from at all, is passed on with end: time and again until that fails
// or the copying is stopped. Neither file is closed.
func startInput(from, to *os.File, end func() error) (*input, error) {
	wake, stopper, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	in := &input{wake: wake, stopper: stopper, to: to, done: make(chan struct{})}
	go func() {
		defer close(in.done)
		defer wake.Close()
		if from != nil && !in.copy(int(from.Fd())) {
			return
		}
		for more := true; more; {
			more = end() == nil && !in.stopped(endAgain)
		}
	}()
	return in, nil
}

// stop ends the copying and waits until it ended.
func (in *input) stop() {
	in.stopper.Close()
	_ = in.to.SetWriteDeadline(time.Now()) // closed already, or it wakes a write the command never read
	<-in.done
}

// copy says whether it got to the end of from. It reads only what poll has announced: a read that blocks could not be
// stopped, and O_NONBLOCK would be set for everyone who shares the terminal.
func (in *input) copy(from int) bool {
	buf := make([]byte, 32*1024)
	for {
		if in.stopped(-1, unix.PollFd{Fd: int32(from), Events: unix.POLLIN}) {
			return false
		}
		n, err := unix.Read(from, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case n <= 0:
			return true // the end, or EIO: a terminal that was hung up
		}
		if _, err := in.to.Write(buf[:n]); err != nil {
			return false
		}
	}
}

// stopped waits until one of fds can be read or the time, in milliseconds, is over (-1: never), and says whether
// copying is to stop.
func (in *input) stopped(timeout int, fds ...unix.PollFd) bool {
	fds = append(fds, unix.PollFd{Fd: int32(in.wake.Fd()), Events: unix.POLLIN})
	for {
		_, err := unix.Poll(fds, timeout)
		if !errors.Is(err, unix.EINTR) {
			return err != nil || fds[len(fds)-1].Revents != 0
		}
	}
}
