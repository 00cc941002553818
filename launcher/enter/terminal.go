package enter

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal ties the pty of a command to the terminal boxrun was called from.
type terminal struct {
	master *os.File
	screen *os.File // the terminal a person looks at, gives the pty its size; nil: none, and the size stays 80x24
	saved  *term.State
	in     *os.File // typed or piped input; not closed
	out    io.Writer
}

// newTerminal readies master for a command. If in is a terminal, newTerminal puts in into raw mode: every key is for
// the box. Close undoes the raw mode.
func newTerminal(master, in *os.File, out io.Writer) (*terminal, error) {
	t := &terminal{master: master, screen: cmp.Or(terminalOf(in), terminalOf(out)), in: in, out: out}
	if err := setSize(master, &unix.Winsize{Row: 24, Col: 80}); err != nil {
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

// Close restores the modes of the caller's terminal and closes the master. Closing the master hangs up a command still
// running. A second Close does nothing.
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

// hangUp tells the command about the loss of its terminal: the kernel sends SIGHUP to the command's session.
func (t *terminal) hangUp() { t.master.Close() }

// resize sets the pty to the size of the caller's terminal. The kernel tells the processes in the pty's foreground.
func (t *terminal) resize() error {
	if t.screen == nil {
		return nil
	}
	size, err := unix.IoctlGetWinsize(int(t.screen.Fd()), unix.TIOCGWINSZ)
	if err == nil && size.Row > 0 && size.Col > 0 { // serial lines say 0x0
		err = setSize(t.master, size)
	}
	if err != nil {
		return fmt.Errorf("giving the box's terminal the size of this one: %w", err)
	}
	return nil
}

// start begins to copy both ways. The channel is closed when output cannot be copied any more: nobody has the box's
// side open, or out takes no more. In the second case start hangs the command up, because a writing command would wait
// for ever.
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

// isEnd reports whether err is a normal end of reading a master. The kernel reports EIO after the other side was
// closed. drain stops the copying by a deadline.
func isEnd(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, os.ErrDeadlineExceeded) }

const (
	drainQuiet = 100 * time.Millisecond // the kernel moves a pty's bytes in a worker, a little after the write
	drainMost  = 1 << 20                // more than a pty can hold: the rest comes from processes outliving the command
)

// drain copies the last output of an ended command, and then closes the channel. To wait for EIO alone would be to wait
// for every process the command left behind on the terminal.
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

// copyRest copies until the master is quiet for drainQuiet, or drainMost bytes have come.
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

// endOfFile tells the terminal's reader about the end of input, as control-D at the keyboard does. Callers have to
// repeat the call: the first control-D may only end a line already begun, or get lost while a shell turns to raw mode.
func endOfFile(master *os.File) error {
	modes, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
	if err != nil {
		return os.NewSyscallError("TCGETS", err)
	}
	_, err = master.Write([]byte{modes.Cc[unix.VEOF]})
	return err
}

// copyModes gives the pty the modes of the caller's terminal (the erase character, UTF-8 editing and so on), as ssh
// does.
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

func setSize(f *os.File, size *unix.Winsize) error {
	return unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, size)
}

// terminalOf returns stream if it is a file and a terminal; nil otherwise.
func terminalOf(stream any) *os.File {
	if f, ok := stream.(*os.File); ok && f != nil && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

func isTerminal(stream any) bool { return terminalOf(stream) != nil }

// input copies a file. The file may block for ever, as a terminal does, and the copying can be stopped all the same.
type input struct {
	wake, stopper *os.File // the two ends of a pipe; closing stopper ends the copying
	to            *os.File
	done          chan struct{}
	left          int // bytes read and not written, once done is closed
}

const endAgain = 250 // milliseconds

// startInput copies from to to. At the end of from, or at once if from is nil, startInput calls end, again and again
// until end fails or the copying is stopped. Neither file is closed.
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

// stop ends the copying and waits for the end.
func (in *input) stop() {
	in.stopper.Close()
	_ = in.to.SetWriteDeadline(time.Now()) // fails for a closed file; otherwise wakes a write the command never read
	<-in.done
}

// giveBack moves the place in from back by what no command has taken out of the pipe r, after the end of the copying.
// A loop that reads lines from the same file goes on with the next line. Of other files nothing can be given back.
func (in *input) giveBack(from, r *os.File) {
	waiting, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
	if err == nil && from != nil && waiting+in.left > 0 {
		_, _ = from.Seek(-int64(waiting+in.left), io.SeekCurrent) // fails where from has no places
	}
}

// copy copies from, and reports whether it came to the end of from. copy reads only what poll has announced: a blocking
// read could not be stopped, and O_NONBLOCK would be set for everyone sharing the terminal.
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
			return true // the end, or EIO from a terminal after hang-up
		}
		if written, err := in.to.Write(buf[:n]); err != nil {
			in.left = n - written
			return false
		}
	}
}

// stopped waits until an fd in fds is readable, or timeout in milliseconds is over (-1: never). stopped reports whether
// the copying is to stop.
func (in *input) stopped(timeout int, fds ...unix.PollFd) bool {
	fds = append(fds, unix.PollFd{Fd: int32(in.wake.Fd()), Events: unix.POLLIN})
	for {
		_, err := unix.Poll(fds, timeout)
		if !errors.Is(err, unix.EINTR) {
			return err != nil || fds[len(fds)-1].Revents != 0
		}
	}
}
