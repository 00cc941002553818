package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The exit codes of a command that did not run, after chroot(1) and podman-exec(1).
const (
	CodeBoxrun     = 125 // boxrun itself failed: no such box or user or directory, Apptainer refused
	CodeNotRunable = 126 // the command was found, but is a directory or not executable
	CodeNotFound   = 127 // there is no such command in the box
)

// Exec is a command to run in a box.
type Exec struct {
	Argv  []string
	Login bool     // the user's shell as a login shell, in the user's home; Argv stays empty
	User  string   // name or number, [:group]; "": root
	Dir   string   // absolute; "": the root directory, or the home of a login
	Env   []string // NAME=VALUE, beside those of a login (HOME, USER, PATH ...)
	TTY   bool     // on a terminal of the box's own

	Stdin  *os.File  // nil: nothing to read
	Stdout io.Writer // with TTY everything goes here; only an *os.File is passed on without copying
	Stderr io.Writer

	copy *transfer // the box's part of a copy, in place of a command
}

// check refuses what could not work in any box.
func (e Exec) check() error {
	if len(e.Argv) == 0 && !e.Login && e.copy == nil {
		return errors.New("no command to run")
	}
	if e.Dir != "" && !strings.HasPrefix(e.Dir, "/") {
		return fmt.Errorf("working directory %q is not an absolute path", e.Dir)
	}
	for _, v := range e.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return fmt.Errorf("environment: %q is not of the form NAME=VALUE", v)
		}
	}
	return nil
}

// boxRef is what entering a box depends on.
type boxRef struct {
	Name string // the instance's
	PID  int    // its init, as the host counts
	Conf string // apptainer.conf; "": the site's own
	Home string // pins where Apptainer has its record of the box

	Record string // that record
	Dir    string // what boxrun has of the box
}

// home gives what Apptainer needs for HOME to find its record of the box, for which it goes by the host's name. Where that
// has changed since the box started, it is a directory of boxrun's with the record at its new place.
func (b boxRef) home() (string, error) {
	hostname, err := os.Hostname()
	if err != nil || b.Record == "" || b.Record == recordPath(b.Home, hostname, b.Name) {
		return b.Home, err
	}
	home := filepath.Join(b.Dir, "home")
	renamed := filepath.Dir(recordPath(home, hostname, b.Name))
	if err := os.MkdirAll(filepath.Dir(renamed), 0o700); err != nil {
		return "", fmt.Errorf("showing Apptainer its record of the box: %w", err)
	}
	if err := os.Symlink(filepath.Dir(b.Record), renamed); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("showing Apptainer its record of the box: %w", err)
	}
	return home, nil
}

// enterArgv gives the command that enters the box: what boxrun itself does there (enter.go) is all that Apptainer gets
// to run. It would otherwise give the command variables and a prompt of its own, and 255 for whatever goes wrong. The
// capabilities are those that the boot dropped; Apptainer would hand them out again (prepareRootCaps).
func (b boxRef) enterArgv() []string {
	argv := []string{"apptainer", "-q"}
	if b.Conf != "" {
		argv = append(argv, "-c", b.Conf)
	}
	return append(argv, "exec", "--drop-caps", "CAP_SYS_BOOT,CAP_SYS_RAWIO", "--cwd", "/", "instance://"+b.Name, enterPath)
}

// runIn runs e in the box and waits for it. The code is the command's own, or 128+N where signal N ended it. With an
// error the command did not run, and the code is 125, 126 or 127; the error's text says why in one line.
//
// While the command runs, the signals that would end boxrun go to it instead, so that its own answer to control-C
// decides; with a terminal they hang it up. The end of ctx does the same as SIGTERM. Where the command does not end
// within endTimeout of a hang-up or of ctx's end, it is killed.
func runIn(ctx context.Context, b boxRef, e Exec) (code int, err error) {
	if err := e.check(); err != nil {
		return CodeBoxrun, err
	}
	signals, release := holdSignals()
	defer release()
	j, err := newJob(b, e)
	if err != nil {
		return CodeBoxrun, err
	}
	defer j.close()
	if e.TTY {
		err = j.runOnPty(ctx, signals, b, e)
	} else {
		err = j.runPlain(ctx, signals, e)
	}
	if err != nil {
		return CodeBoxrun, err
	}
	return j.result(b)
}

// holdSignals takes the signals that would end boxrun before the terminal is put right. SIGPIPE is one of them: Go
// dies of it where the write was to standard output. Those that boxrun was told to ignore (nohup) stay ignored.
func holdSignals() (signals <-chan os.Signal, release func()) {
	ch := make(chan os.Signal, 16)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE, unix.SIGWINCH} {
		if !signal.Ignored(s) {
			signal.Notify(ch, s)
		}
	}
	return ch, func() { signal.Stop(ch) }
}

// job is one run of "apptainer exec".
type job struct {
	cmd  *exec.Cmd
	line *line // to the process inside
	hung bool  // a signal has gone to it that ought to end it
}

// newJob readies the command. It gets a session of its own: a control-C at the host's terminal would end Apptainer's
// process, and with it the command, whatever that makes of SIGINT (set_parent_death_signal).
func newJob(b boxRef, e Exec) (*job, error) {
	path, err := lookApptainer()
	if err != nil {
		return nil, err
	}
	home, err := b.home()
	if err != nil {
		return nil, err
	}
	argv := b.enterArgv()
	cmd := exec.Command(path, argv[1:]...)
	cmd.Env = environment(home)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = endTimeout // of copying to a Stdout that is no file
	j := &job{cmd: cmd}
	if j.line, err = newLine(entryOf(e)); err != nil {
		return nil, err
	}
	cmd.ExtraFiles = j.line.far
	return j, nil
}

func (j *job) close() { j.line.close() }

// start runs Apptainer and lets go of what is only for it.
func (j *job) start() error {
	if err := j.cmd.Start(); err != nil {
		return fmt.Errorf("running %s: %w", j.cmd.Path, err)
	}
	j.line.started()
	return nil
}

// runPlain runs the command without a terminal. One that boxrun itself reads from is copied through a pipe: the
// command is not in its session, and may not read it.
func (j *job) runPlain(ctx context.Context, signals <-chan os.Signal, e Exec) error {
	j.cmd.Stdout, j.cmd.Stderr = e.outputs()
	if e.Stdin != nil {
		j.cmd.Stdin = e.Stdin
	}
	if isTerminal(e.Stdin) {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer r.Close()
		defer w.Close()
		in, err := startInput(e.Stdin, w, w.Close)
		if err != nil {
			return err
		}
		defer in.stop()
		j.cmd.Stdin = r
	}
	if err := j.start(); err != nil {
		return err
	}
	return j.wait(ctx, signals, nil)
}

// writer is a Writer and nothing more: os/exec gives the command a pipe in its place.
type writer struct{ io.Writer }

// outputs gives where the command writes to, but for the host's terminal: root in the box could type on that (TIOCSTI).
// Where both are the terminal the two stay one, so that what is written is in order.
func (e Exec) outputs() (stdout, stderr io.Writer) {
	stdout, stderr = e.Stdout, e.Stderr
	if writesToTerminal(stdout) {
		stdout = writer{stdout}
	}
	if writesToTerminal(stderr) {
		stderr = writer{stderr}
	}
	if writesToTerminal(e.Stdout) && writesToTerminal(e.Stderr) {
		stderr = stdout
	}
	return stdout, stderr
}

func writesToTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isTerminal(f)
}

// runOnPty runs the command on a new terminal of the box.
func (j *job) runOnPty(ctx context.Context, signals <-chan os.Signal, b boxRef, e Exec) (err error) {
	master, slave, err := openPty(b.PID)
	if err != nil {
		return err
	}
	return j.runOn(ctx, signals, master, slave, e)
}

// runOn runs the command on slave, and closes both ends. The command makes it its controlling terminal itself: it
// leads a session of its own in the box.
func (j *job) runOn(ctx context.Context, signals <-chan os.Signal, master, slave *os.File, e Exec) (err error) {
	defer slave.Close()
	t, err := newTerminal(master, e.Stdin, e.Stdout)
	if err != nil {
		return errors.Join(err, master.Close())
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	j.cmd.Stdin, j.cmd.Stdout, j.cmd.Stderr = slave, slave, slave
	if err := j.start(); err != nil {
		return err
	}
	slave.Close() // or the end of the output would never be seen
	in, copied, err := t.start()
	if err != nil {
		t.hangUp()
		return errors.Join(err, j.wait(ctx, signals, t))
	}
	defer in.stop()
	if err := j.wait(ctx, signals, t); err != nil {
		return err
	}
	if !j.hung {
		await(t.drain(copied), signals)
	}
	return nil
}

// await waits for the last output, unless boxrun is told to go: out may be a pipe that nobody reads.
func await(drained <-chan struct{}, signals <-chan os.Signal) {
	for {
		select {
		case <-drained:
			return
		case s := <-signals:
			if s != unix.SIGWINCH && s != unix.SIGPIPE {
				return
			}
		}
	}
}

// endTimeout is how long a command may go on after it was hung up.
const endTimeout = 3 * time.Second

// wait reaps the command, minding signals and ctx; t is nil where it has no terminal. How the command ended is not
// an error here, see result.
func (j *job) wait(ctx context.Context, signals <-chan os.Signal, t *terminal) error {
	done := make(chan error, 1)
	go func() { done <- j.cmd.Wait() }()
	over := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case err := <-done:
			return notExit(err)
		case s := <-signals:
			if j.handle(s.(syscall.Signal), t) && late == nil {
				late = time.After(endTimeout)
			}
		case <-over:
			over = nil
			j.handle(unix.SIGTERM, t)
			late = time.After(endTimeout)
		case <-late:
			j.forward(unix.SIGKILL)
		}
	}
}

// notExit drops the errors that only say how the command ended.
func notExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// handle passes one signal on. It says whether the command has to end now.
func (j *job) handle(s syscall.Signal, t *terminal) bool {
	switch {
	case s == unix.SIGWINCH:
		if t != nil {
			_ = t.resize() // the terminal is going away, which SIGHUP tells better
		}
		return false
	case s == unix.SIGPIPE:
		return false // the write that caused it has failed, too
	case t != nil:
		j.hung = true
		t.hangUp()
		return true
	}
	j.forward(s)
	return false
}

// forward sends s to the command's process group, or to Apptainer where the command is not running yet.
func (j *job) forward(s syscall.Signal) {
	if pid := j.line.pid(); pid > 0 && unix.Kill(-pid, s) == nil {
		return
	}
	j.hung = true
	_ = j.cmd.Process.Signal(s) // ended meanwhile: nothing to do
}

// result gives the exit code, or what kept the command from running.
func (j *job) result(b boxRef) (int, error) {
	f, err := j.line.end()
	if err != nil {
		return CodeBoxrun, fmt.Errorf("entering box %q: %w", b.Name, err)
	}
	if f.Text != "" {
		return f.Code, errors.New(f.Text)
	}
	ended := j.cmd.ProcessState
	if j.line.pid() == 0 && !j.hung {
		return CodeBoxrun, fmt.Errorf("entering box %q: apptainer ended with %v before the command ran", b.Name, ended)
	}
	return exitCode(ended), nil
}

// exitCode gives the code of a process that ended, 128+N where signal N ended it.
func exitCode(p *os.ProcessState) int {
	if status, ok := p.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.ExitCode()
}

// line is what boxrun outside the box says to boxrun inside, and hears from it: one description of the command in, two
// packets back at most. The first says that it runs, the second that it could not be executed.
type line struct {
	far     []*os.File // what the process inside finds as its file 3 and on, see enter.go
	near    int        // socket
	process int        // the command's process, as the host counts; 0: not heard of yet
	text    []byte     // the second packet
}

// newLine opens a line; the executable that enters the box comes with it.
func newLine(e entry) (*line, error) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("opening boxrun's own executable: %w", err)
	}
	spec, err := inMemory(e)
	if err != nil {
		exe.Close()
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		exe.Close()
		spec.Close()
		return nil, os.NewSyscallError("socketpair", err)
	}
	l := &line{near: pair[0], far: []*os.File{exe, spec, os.NewFile(uintptr(pair[1]), "line")}}
	// With each packet the kernel then tells who sent it, in the host's numbers.
	if err := unix.SetsockoptInt(l.near, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		l.close()
		return nil, os.NewSyscallError("setsockopt SO_PASSCRED", err)
	}
	return l, nil
}

// inMemory puts e into a file that has no name: its values, secrets among them, show in no process list.
func inMemory(e entry) (*os.File, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("boxrun-entry", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "entry")
	if _, err := f.WriteAt(text, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// started closes the far end here: then its end inside is the line's.
func (l *line) started() {
	for _, f := range l.far {
		f.Close()
	}
}

func (l *line) close() {
	l.started()
	unix.Close(l.near)
}

// pid gives the process that runs in the box, as the host counts; it leads its own process group. 0: not yet.
func (l *line) pid() int {
	l.hear()
	return l.process
}

// end gives why the command could not be executed; a failure without text where it was.
func (l *line) end() (failure, error) {
	for l.hear() {
	}
	var f failure
	if len(l.text) == 0 {
		return f, nil
	}
	err := json.Unmarshal(l.text, &f)
	return f, err
}

// hear takes one packet, if one is there.
func (l *line) hear() bool {
	buf, oob := make([]byte, 64*1024), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, _, _, err := unix.Recvmsg(l.near, buf, oob, unix.MSG_DONTWAIT)
	if err != nil || n == 0 {
		return false
	}
	if l.process == 0 {
		l.process = senderOf(oob[:oobn])
	} else {
		l.text = buf[:n]
	}
	return true
}

func senderOf(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return 0
	}
	who, err := unix.ParseUnixCredentials(&messages[0])
	if err != nil {
		return 0
	}
	return int(who.Pid)
}
