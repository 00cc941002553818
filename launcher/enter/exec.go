package enter

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

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
)

// RefOf returns what boxrun needs to know to enter the box.
func RefOf(s *box.Store, b *box.Box) Ref {
	return Ref{Name: b.Name, PID: b.Init.PID, Conf: s.Conf(), Home: s.Home, Record: b.Record, Dir: s.BoxDir(b.Name)}
}

// Run runs a command in a box that is up, and returns the exit code of the command. With an error the code is
// CodeBoxrun, CodeNotRunable or CodeNotFound. The error is ErrNotFound where the box is not up.
func Run(ctx context.Context, s *box.Store, name string, e Command) (code int, err error) {
	b, err := s.Find(name)
	if err != nil {
		return CodeBoxrun, err
	}
	if !b.Alive() {
		return CodeBoxrun, NotUp(b)
	}
	return RunIn(ctx, RefOf(s, b), e)
}

// The exit codes for a command that did not run, after chroot(1) and podman-exec(1).
const (
	CodeBoxrun     = 125 // boxrun itself failed: no such box or user or directory, Apptainer refused
	CodeNotRunable = 126 // the command was found, but is a directory or not executable
	CodeNotFound   = 127 // the box has no such command
)

// Command is a command to run in a box.
type Command struct {
	Argv  []string
	Login bool     // run the user's shell as a login shell in the user's home; Argv stays empty
	User  string   // name or number, [:group]; "": root
	Dir   string   // absolute; "": the root directory, or the home of a login
	Env   []string // NAME=VALUE, added to the variables of a login (HOME, USER, PATH ...)
	TTY   bool     // run on a new terminal of the box

	Stdin  *os.File  // nil: empty
	Stdout io.Writer // with TTY, gets stderr too; only an *os.File is passed on without copying
	Stderr io.Writer

	copy *transfer // the box's part of a copy, in place of a command
}

// check refuses a command that could not work in any box: nothing to run, a relative directory, a malformed variable.
func (e Command) check() error {
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

// Ref is the part of a box needed to enter the box.
type Ref struct {
	Name string // name of the instance
	PID  int    // of the box's init, as the host counts
	Conf string // apptainer.conf; "": the site's own
	Home string // HOME for Apptainer: pins where Apptainer keeps its record of the box

	Record string // Apptainer's record of the box
	Dir    string // boxrun's files for the box
}

// home returns the HOME to give Apptainer so that Apptainer finds its record of the box. Apptainer looks for the record
// by the host's name. If the host's name has changed since the box started, home returns a directory of boxrun's in
// which a link leads from the record's new place to the old. home makes this directory if need be.
func (b Ref) home() (string, error) {
	hostname, err := os.Hostname()
	if err != nil || b.Record == "" || b.Record == apptainer.RecordPath(b.Home, hostname, b.Name) {
		return b.Home, err
	}
	home := filepath.Join(b.Dir, "home")
	renamed := filepath.Dir(apptainer.RecordPath(home, hostname, b.Name))
	if err := os.MkdirAll(filepath.Dir(renamed), 0o700); err != nil {
		return "", fmt.Errorf("showing Apptainer its record of the box: %w", err)
	}
	if err := os.Symlink(filepath.Dir(b.Record), renamed); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("showing Apptainer its record of the box: %w", err)
	}
	return home, nil
}

// EnterArgv returns the command to enter the box. Apptainer runs only boxrun itself (enter.go): for another command,
// Apptainer would add variables and a prompt, and exit with 255 for any failure. The dropped capabilities are the ones
// dropped at boot; Apptainer would grant them again (prepareRootCaps).
func (b Ref) EnterArgv() []string {
	argv := []string{"apptainer", "-q"}
	if b.Conf != "" {
		argv = append(argv, "-c", b.Conf)
	}
	return append(argv, "exec", "--drop-caps", "CAP_SYS_BOOT,CAP_SYS_RAWIO", "--cwd", "/", "instance://"+b.Name, enterPath)
}

// RunIn runs e in the box and waits for the end. The code is the command's own, or 128+N if signal N ended the command.
// If err is not nil, the command did not run, the code is 125, 126 or 127, and the error's text says why in a single
// line.
//
// While the command runs, signals that would end boxrun go to the command instead, so the command itself decides about
// control-C. With a terminal, such a signal hangs up the terminal. The end of ctx acts like SIGTERM. A command still
// alive endTimeout after a hang-up or after ctx's end is killed.
func RunIn(ctx context.Context, b Ref, e Command) (code int, err error) {
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

// holdSignals catches the signals that would end boxrun before the terminal is restored. SIGPIPE is among them: Go dies
// of SIGPIPE on a write to standard output. Signals boxrun was told to ignore (nohup) stay ignored. release ends the
// catching.
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
	line *line // connection to the process inside
	hung bool  // a signal meant to end the command was sent
}

// newJob prepares the command, in a session of its own. Otherwise a control-C at the host's terminal would end
// Apptainer's process, and with Apptainer the command, however the command handles SIGINT (set_parent_death_signal).
func newJob(b Ref, e Command) (*job, error) {
	path, err := apptainer.Look()
	if err != nil {
		return nil, err
	}
	home, err := b.home()
	if err != nil {
		return nil, err
	}
	argv := b.EnterArgv()
	cmd := exec.Command(path, argv[1:]...)
	cmd.Env = apptainer.Environment(home)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = endTimeout // for the copying to a Stdout other than a file
	j := &job{cmd: cmd}
	if j.line, err = newLine(entryOf(e)); err != nil {
		return nil, err
	}
	cmd.ExtraFiles = j.line.far
	return j, nil
}

func (j *job) close() { j.line.close() }

// start runs Apptainer and closes boxrun's copies of the files passed to Apptainer.
func (j *job) start() error {
	if err := j.cmd.Start(); err != nil {
		return fmt.Errorf("running %s: %w", j.cmd.Path, err)
	}
	j.line.started()
	return nil
}

// runPlain runs the command without a terminal. If boxrun's own input is a terminal, boxrun copies the input through a
// pipe: the command is in another session and may not read the terminal.
func (j *job) runPlain(ctx context.Context, signals <-chan os.Signal, e Command) error {
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

// writer hides every method but Write: os/exec then gives the command a pipe instead of the file itself.
type writer struct{ io.Writer }

// outputs returns the writers for the command's output. The host's terminal is never passed on itself: root in the box
// could type on the terminal (TIOCSTI). If both outputs are the terminal, both get the same writer, to keep the order.
func (e Command) outputs() (stdout, stderr io.Writer) {
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
func (j *job) runOnPty(ctx context.Context, signals <-chan os.Signal, b Ref, e Command) (err error) {
	master, slave, err := openPty(b.PID)
	if err != nil {
		return err
	}
	return j.runOn(ctx, signals, master, slave, e)
}

// runOn runs the command on slave, and closes both ends. The command itself makes slave its controlling terminal:
// inside the box, the command leads its own session.
func (j *job) runOn(ctx context.Context, signals <-chan os.Signal, master, slave *os.File, e Command) (err error) {
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
	slave.Close() // an open copy would hide the end of the output
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

// await waits for the last output, or until a signal tells boxrun to end: the output may be a pipe without a reader.
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

// endTimeout is how long a command may go on after a hang-up.
const endTimeout = 3 * time.Second

// wait waits for the command to end, and passes on signals and the end of ctx meanwhile. t is nil for a command without
// a terminal. The way the command ended is no error here; see result.
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

// notExit drops the errors that only describe how the command ended.
func notExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// handle passes on a single signal. It reports whether the command has to end within endTimeout.
func (j *job) handle(s syscall.Signal, t *terminal) bool {
	switch {
	case s == unix.SIGWINCH:
		if t != nil {
			_ = t.resize() // resizing fails when the terminal goes away; SIGHUP covers this
		}
		return false
	case s == unix.SIGPIPE:
		return false // the write behind SIGPIPE has failed too, and reports the error
	case t != nil:
		j.hung = true
		t.hangUp()
		return true
	}
	j.forward(s)
	return false
}

// forward sends s to the command's process group, or to Apptainer if the command is not running yet.
func (j *job) forward(s syscall.Signal) {
	if pid := j.line.pid(); pid > 0 && unix.Kill(-pid, s) == nil {
		return
	}
	j.hung = true
	_ = j.cmd.Process.Signal(s) // an error means Apptainer has ended: nothing to do
}

// result returns the exit code of the command, or an error saying why the command did not run.
func (j *job) result(b Ref) (int, error) {
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

// exitCode returns the exit code of an ended process; 128+N if signal N ended the process.
func exitCode(p *os.ProcessState) int {
	if status, ok := p.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.ExitCode()
}

// line is the connection between boxrun outside the box and boxrun inside. The process inside gets a description of the
// command, and sends two packets back at most: the first when the process runs, the second if the command could not be
// executed.
type line struct {
	far     []*os.File // files 3 and up of the process inside, see enter.go
	near    int        // socket of boxrun outside
	process int        // PID of the command as the host counts; 0: no packet yet
	text    []byte     // the second packet
}

// newLine opens a line. Its files include boxrun's executable, to be run inside the box.
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
	// With SO_PASSCRED the kernel adds the sender's PID, as the host counts, to each packet.
	if err := unix.SetsockoptInt(l.near, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		l.close()
		return nil, os.NewSyscallError("setsockopt SO_PASSCRED", err)
	}
	return l, nil
}

// inMemory returns a file without a name (memfd) holding e. The values of e, secrets among them, thus appear in no
// process list.
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

// started closes the far end in this process: from then on the process inside holds the only copy, and its exit closes
// the line.
func (l *line) started() {
	for _, f := range l.far {
		f.Close()
	}
}

func (l *line) close() {
	l.started()
	unix.Close(l.near)
}

// pid returns the PID of the process in the box, as the host counts; 0 if the process has not reported yet. The process
// leads its own process group.
func (l *line) pid() int {
	l.hear()
	return l.process
}

// end returns why the command could not be executed; a failure without text if the command was executed.
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

// hear receives a packet if there is any, without waiting, and reports whether there was one.
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

// senderOf returns the PID from the credentials in a packet's control message; 0 if there are none.
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
