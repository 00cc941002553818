package enter

import (
	"cmp"
	"context"
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
	"boxrun/launcher/confine"
	"boxrun/launcher/fault"
	"boxrun/launcher/process"
)

// Run runs a command in the box with the given name, as Ref.Run does. The error is ErrNotFound if the box is not up.
func Run(ctx context.Context, s *box.Store, name string, c Command) (code int, err error) {
	b, err := Find(s, name)
	if err != nil {
		return CodeBoxrun, err
	}
	return RefOf(s, b).Run(ctx, c)
}

// Find returns the box with the given name. The error is ErrNotFound if the box is not up.
func Find(s *box.Store, name string) (*box.Box, error) {
	b, err := s.Find(name)
	if err == nil && !b.Alive() {
		is := "is " + b.State()
		if b.State() == box.Crashed {
			is = "has crashed"
		}
		err = &fault.Problem{Kind: fault.ErrNotFound, Text: fmt.Sprintf("box %q %s", b.Name, is), Hint: absentHint(b)}
	}
	return b, err
}

// absentHint returns what to do about a box that does not run: wait, where another boxrun is about to start it.
func absentHint(b *box.Box) string {
	if b.State() == string(box.Starting) {
		return fmt.Sprintf("another boxrun starts it: wait until \"boxrun status --check %s\" finds it well", b.Name)
	}
	return fmt.Sprintf("\"boxrun up %s\" brings it up again", b.Name)
}

// The exit codes for a command that did not run, after chroot(1) and podman-exec(1).
const (
	CodeBoxrun      = 125 // boxrun itself failed: no such box or user or directory, Apptainer refused
	CodeNotRunnable = 126 // the command was found, but is a directory or not executable
	CodeNotFound    = 127 // the box has no such command
)

// Command is a command to run in a box. The process inside gets all fields but the streams.
type Command struct {
	Argv  []string
	Login bool     // run the user's shell as a login shell in the user's home; Argv stays empty
	User  string   // name or number, [:group]; "": root
	Dir   string   // absolute; "": the root directory, or the home of a login
	Env   []string // NAME=VALUE, added to the variables of a login (HOME, USER, PATH ...)
	OfBox []string // the same of the box's services, which give way to Env, HOME, USER, LOGNAME and SHELL
	TTY   bool     // run on a new terminal of the box

	Stdin  *os.File  `json:"-"` // nil: empty
	Stdout io.Writer `json:"-"` // with TTY, gets stderr too; only a pipe is passed on without copying
	Stderr io.Writer `json:"-"`

	// Quiet is how long the command may print nothing, before it is killed and an error tells so; 0: for ever. Without a TTY.
	Quiet time.Duration `json:"-"`

	grace time.Duration // how long the command may go on after a hang-up; 0: endTimeout
	begin time.Duration // how long the box may take to let the command begin; 0: Patience
}

// check refuses a command that could not work in any box: nothing to run, a relative directory, a malformed variable.
func (c Command) check() error {
	if len(c.Argv) == 0 && !c.Login {
		return errors.New("no command to run")
	}
	if c.Dir != "" && !strings.HasPrefix(c.Dir, "/") {
		return fmt.Errorf("working directory %q is not an absolute path", c.Dir)
	}
	for _, v := range c.Env {
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

	Cgroup string // of the box; "": none
	Drop   string // capabilities for Apptainer to drop, with commas between
	Record string // Apptainer's record of the box
	Dir    string // boxrun's files for the box
}

// RefOf returns the Ref for a box of the store.
func RefOf(s *box.Store, b *box.Box) Ref {
	return Ref{
		Name: b.Name, PID: b.Init.PID, Conf: s.Conf(), Home: s.Home, Record: b.Record, Dir: s.BoxDir(b.Name),
		Cgroup: b.Cgroup, Drop: confine.Dropped(b.Profile),
	}
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
	err = os.MkdirAll(filepath.Dir(renamed), 0o700)
	if err == nil {
		err = os.Symlink(filepath.Dir(b.Record), renamed)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("showing Apptainer its record of the box: %w", err)
	}
	return home, nil
}

// Argv returns the command to enter the box. Apptainer runs only boxrun itself (inside.go): for another command,
// Apptainer would add variables and a prompt, and exit with 255 for any failure.
func (b Ref) Argv() []string {
	argv := []string{"apptainer", "-q"}
	if b.Conf != "" {
		argv = append(argv, "-c", b.Conf)
	}
	return append(argv, "exec", "--drop-caps", b.Drop, "--cwd", "/", "instance://"+b.Name, enterPath)
}

// Run runs c in the box and waits for the end. The code is the command's own, or 128+N if signal N ended the command.
// If err is not nil, the command did not run, the code is 125, 126 or 127, and the error's text says why in a single
// line.
//
// While the command runs, signals meant to end boxrun go to the command instead, so the command itself decides about
// control-C. With a terminal, such a signal hangs up the terminal. The end of ctx acts like SIGTERM. A command still
// alive endTimeout after a hang-up or after ctx's end is killed, and so is a command that a signal does not reach for as
// long, as in a frozen cgroup.
func (b Ref) Run(ctx context.Context, c Command) (code int, err error) {
	if err := c.check(); err != nil {
		return CodeBoxrun, err
	}
	return b.run(ctx, entryOf(c))
}

// run runs the command or the copy of an entry. The results are those of Run.
func (b Ref) run(ctx context.Context, e entry) (code int, err error) {
	signals, release := holdSignals()
	defer release()
	j, err := newJob(b, e, signals)
	if err != nil {
		return CodeBoxrun, err
	}
	defer j.line.close()
	if e.TTY {
		err = j.runOnPty(ctx, e.Command, func() (master, slave *os.File, err error) { return ptyOf(ctx, b.PID) })
	} else {
		err = j.runPlain(ctx, e.Command)
	}
	if !j.line.hasBegun() { // perhaps the box has ended, and Apptainer has made its cgroup anew
		err = cmp.Or(err, process.SweepCgroup(b.Cgroup))
	}
	if err != nil {
		return CodeBoxrun, err
	}
	return j.result(b.Name)
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
	cmd      *exec.Cmd
	line     *line            // connection to the process inside
	signals  <-chan os.Signal // the signals boxrun gets meanwhile
	terminal *terminal        // nil: none
	grace    time.Duration    // how long the command may go on after a hang-up
	begin    time.Duration    // how long the box may take to let the command begin; 0: Patience
	hung     bool             // a signal meant to end the command was sent
	quiet    *listener        // nil: the command may print nothing for ever
	stuck    error            // why the command was killed; nil: it was not
}

// newJob prepares the command, in a session of its own. Otherwise a control-C at the host's terminal would end
// Apptainer's process, and with Apptainer the command, however the command handles SIGINT (set_parent_death_signal).
func newJob(b Ref, e entry, signals <-chan os.Signal) (*job, error) {
	path, err := apptainer.Look()
	if err != nil {
		return nil, err
	}
	home, err := b.home()
	if err != nil {
		return nil, err
	}
	l, err := newLine(e)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, b.Argv()[1:]...)
	cmd.Env = apptainer.Environment(home)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = l.far
	j := &job{cmd: cmd, line: l, signals: signals, grace: cmp.Or(e.grace, endTimeout), begin: e.begin}
	cmd.WaitDelay = j.grace // for the copying to a Stdout other than a file
	return j, nil
}

// start runs Apptainer and closes boxrun's copies of the files passed to Apptainer.
func (j *job) start() error {
	if err := j.cmd.Start(); err != nil {
		return fmt.Errorf("running %s: %w", j.cmd.Path, err)
	}
	j.line.started()
	return nil
}

// runPlain runs the command without a terminal. The command gets pipes: see private.
func (j *job) runPlain(ctx context.Context, c Command) error {
	j.quiet = newListener(c.Quiet)
	j.cmd.Stdout, j.cmd.Stderr = c.outputs(j.quiet)
	if isPipe(c.Stdin) {
		j.cmd.Stdin = c.Stdin
		return j.startAndWait(ctx)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	in, err := startInput(c.Stdin, w, w.Close)
	if err != nil {
		return err
	}
	j.cmd.Stdin = r
	err = j.startAndWait(ctx)
	in.stop()
	in.giveBack(c.Stdin, r)
	return err
}

func (j *job) startAndWait(ctx context.Context) error {
	if err := j.start(); err != nil {
		return err
	}
	return j.wait(ctx)
}

// private hides every method of a writer but Write: os/exec then gives the command a pipe. A file of the host, open in
// the box, could be opened again by any process of the box with the file's rights: for writing from the start, or as a
// directory to go on from. On a terminal root in the box could type (TIOCSTI). Even the mode of /dev/null could be
// changed.
type private struct{ io.Writer }

// outputs returns the writers for the command's output, heard by a listener. Without a listener a pipe is passed on
// itself. If both outputs lead to the same file, both get the same writer, to keep the order.
func (c Command) outputs(l *listener) (stdout, stderr io.Writer) {
	stdout, stderr = l.hear(hide(c.Stdout)), l.hear(hide(c.Stderr))
	if sameFile(c.Stdout, c.Stderr) {
		stderr = stdout
	}
	return stdout, stderr
}

// hide returns what the command may get of a writer.
func hide(w io.Writer) io.Writer {
	switch {
	case w == nil:
		return io.Discard
	case isPipe(w):
		return w
	}
	return private{w}
}

// isPipe reports whether a stream is a pipe.
func isPipe(stream any) bool {
	info, err := statOf(stream)
	return err == nil && info.Mode()&fs.ModeNamedPipe != 0
}

// sameFile reports whether two streams are files, and the same.
func sameFile(a, b any) bool {
	infoA, errA := statOf(a)
	infoB, errB := statOf(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func statOf(stream any) (fs.FileInfo, error) {
	if f, ok := stream.(*os.File); ok && f != nil {
		return f.Stat()
	}
	return nil, os.ErrInvalid
}

// runOnPty runs the command on a new terminal that open opens. The command itself makes the terminal its
// controlling terminal: inside the box, the command leads its own session.
func (j *job) runOnPty(ctx context.Context, c Command, open func() (master, slave *os.File, err error)) (err error) {
	master, slave, err := open()
	if err != nil {
		return err
	}
	defer slave.Close()
	if j.terminal, err = newTerminal(master, c.Stdin, c.Stdout); err != nil {
		return errors.Join(err, master.Close())
	}
	defer func() { err = errors.Join(err, j.terminal.Close()) }()
	j.cmd.Stdin, j.cmd.Stdout, j.cmd.Stderr = slave, slave, slave
	if err := j.start(); err != nil {
		return err
	}
	slave.Close() // an open copy would hide the end of the output
	in, copied, err := j.terminal.start()
	if err != nil {
		j.terminal.hangUp()
		return errors.Join(err, j.wait(ctx))
	}
	defer in.stop()
	if err := j.wait(ctx); err != nil {
		return err
	}
	if !j.hung {
		await(j.terminal.drain(copied), j.signals)
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

// Patience is how long a box may keep boxrun waiting for a command to begin. Root in the box can have every look at a
// file wait for ever.
const Patience = 30 * time.Second

// endTimeout is how long a command may go on after a hang-up, if Command.grace is 0.
const endTimeout = 3 * time.Second

// wait waits for the command to end, and passes on signals and the end of ctx meanwhile. The way the command ended is
// no error here; see result.
func (j *job) wait(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- j.cmd.Wait() }()
	over, begin := ctx.Done(), time.After(cmp.Or(j.begin, Patience))
	var late, taken <-chan time.Time
	var asked syscall.Signal
	for {
		select {
		case err := <-done:
			return notExit(err)
		case s := <-j.signals:
			asked, taken = s.(syscall.Signal), time.After(j.grace)
			if j.handle(asked) && late == nil {
				late = time.After(j.grace)
			}
		case <-taken:
			if process.Deaf(j.line.pid(), asked) {
				j.end()
			}
		case <-over:
			over = nil
			j.handle(unix.SIGTERM)
			late = time.After(j.grace)
		case <-late:
			j.end()
		case <-begin:
			if !j.line.hasBegun() {
				j.kill(fmt.Errorf("the box has let no command begin for %v", cmp.Or(j.begin, Patience)))
			}
		case <-j.quiet.tired():
			j.kill(fmt.Errorf("the command in the box has printed nothing for %v", j.quiet.limit))
		}
	}
}

// kill ends a command that keeps boxrun waiting, and notes why. The reason of the first kill counts.
func (j *job) kill(why error) {
	j.stuck = cmp.Or(j.stuck, why)
	j.end()
}

// end kills the command, and Apptainer: in the cgroup of a box Apptainer may be frozen with the command.
func (j *job) end() {
	j.forward(unix.SIGKILL)
	_ = j.cmd.Process.Kill() // an error means Apptainer has ended
}

// notExit drops the errors that only describe how the command ended.
func notExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// handle passes on a single signal. It reports whether the command has to end within j.grace.
func (j *job) handle(s syscall.Signal) bool {
	switch {
	case s == unix.SIGWINCH:
		if j.terminal != nil {
			_ = j.terminal.resize() // resizing fails when the terminal goes away; SIGHUP covers this
		}
		return false
	case s == unix.SIGPIPE:
		return false // the write behind SIGPIPE has failed too, and reports the error
	case j.terminal != nil:
		j.hung = true
		j.terminal.hangUp()
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
func (j *job) result(box string) (int, error) {
	if j.stuck != nil {
		return CodeBoxrun, &fault.Problem{Text: fmt.Sprintf("entering box %q: %v", box, j.stuck),
			Hint: fmt.Sprintf("a file system there may not answer, or its processes are frozen: \"boxrun restart %s\" ends that", box)}
	}
	f, err := j.line.end()
	if err != nil {
		return CodeBoxrun, fmt.Errorf("entering box %q: %w", box, err)
	}
	if f.Text != "" {
		return f.Code, errors.New(f.Text)
	}
	ended := j.cmd.ProcessState
	if j.line.pid() == 0 && !j.hung {
		return CodeBoxrun, fmt.Errorf("entering box %q: apptainer ended with %v before the command ran", box, ended)
	}
	return process.ExitCode(ended), nil
}
