package enter

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"boxrun/launcher/confine"
	"boxrun/launcher/hello"
	"boxrun/profiles"
)

// boxrun itself starts a command in a box. Apptainer joins the namespaces and runs boxrun's executable, handed over as
// an open file, so nothing of the image is needed. Inside, boxrun becomes the user, looks for the command with the
// user's eyes and executes the command. Otherwise every image would need setpriv, su and env, and su would open a
// session that holds up the box's shutdown.
const (
	enterFD   = 3
	enterPath = "/proc/self/fd/3"
	entryFD   = 4 // the entry, as JSON
	lineFD    = 5 // packets to boxrun outside
)

// entry is the message to the process inside: the command to run, or a copy to do.
type entry struct {
	Command
	Term string // value of TERM; "": unset
	Copy *side  // the box's part of a copy, in place of a command

	Try *profiles.Security // the confinement to try, in place of a command
}

// entryOf returns the entry for c. A command on a terminal gets boxrun's own TERM, or "xterm" if TERM is unset.
func entryOf(c Command) entry {
	e := entry{Command: c}
	if c.TTY {
		e.Term = cmp.Or(os.Getenv("TERM"), "xterm")
	}
	return e
}

// failure tells why a command was not executed, with the exit code to report.
type failure struct {
	Code int
	Text string
}

func (f *failure) Error() string { return f.Text }

// Inside runs the parts of boxrun that belong into a box. args is the command line of the process: it tells whether the
// process is such a part. If so, inside is true, and the caller must exit with code. Otherwise inside is false and
// Inside did nothing. The messages of inits go to log.
func Inside(args []string, log io.Writer) (code int, inside bool) {
	switch {
	case args[0] == enterPath:
		return enter(), true
	case confine.Wanted(args):
		return confine.Init(log), true
	case args[0] == hello.Path && os.Getpid() == 1:
		return hello.Init(log), true
	default:
		return 0, false
	}
}

// enter reads its entry and executes the command; on success enter does not return. If the command cannot be executed,
// enter sends the failure over the line and returns the exit code. After a copy enter returns 0.
func enter() int {
	runtime.LockOSThread() // capabilities belong to a thread: the thread that drops them must also execute
	// The command gets its own session, to make its process group known: the group has the number of the process.
	_, err := unix.Setsid()
	if err == nil {
		err = unix.Send(lineFD, []byte("running"), 0)
	}
	var e entry
	if err == nil {
		e, err = readEntry()
	}
	if err == nil {
		err = e.run()
	}
	if err == nil {
		return 0
	}
	f := &failure{Code: CodeBoxrun}
	if !errors.As(err, &f) {
		f.Text = err.Error()
	}
	if text, err := json.Marshal(f); err == nil {
		_ = unix.Send(lineFD, text, 0) // nobody is left to be told
	}
	return f.Code
}

// readEntry reads the entry from the file entryFD.
func readEntry() (entry, error) {
	text, err := io.ReadAll(io.NewSectionReader(os.NewFile(entryFD, "entry"), 0, 1<<30))
	if err != nil {
		return entry{}, err
	}
	var e entry
	return e, json.Unmarshal(text, &e)
}

// run becomes the user and executes the command, or does the copy. run returns only after a copy or with an error.
func (e entry) run() error {
	KeepToSelf()
	if err := confine.Follow(); err != nil {
		return err
	}
	switch {
	case e.Copy != nil:
		tellBegun()
		return e.Copy.inside()
	case e.Try != nil:
		tellBegun()
		return tryInside(*e.Try)
	}
	u, err := lookUser(e.User)
	if err != nil {
		return err
	}
	if err := e.takeTerminal(u); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := u.become(); err != nil {
		return err
	}
	if err := e.enterDir(u); err != nil {
		return err
	}
	return e.execute(u, e.environ(u, boxLang()))
}

// KeepToSelf marks all files but standard input, output and error as closed on exec: those of whoever called boxrun, and
// those that Apptainer leaves open. Whoever can change /proc in a box is not asked which files there are.
func KeepToSelf() {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	for fd := 3; fd < 1024; fd++ { // Linux before 5.11 knows no ranges
		unix.CloseOnExec(fd)
	}
}

// takeTerminal makes standard input the controlling terminal and gives the terminal to the user, as login does.
// Otherwise tmux, or a write to /dev/stderr, could not open the terminal.
func (e entry) takeTerminal(u user) error {
	if !e.TTY {
		return nil
	}
	if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
		return os.NewSyscallError("TIOCSCTTY", err)
	}
	return os.NewSyscallError("fchown", unix.Fchown(0, u.UID, -1))
}

// enterDir changes to the working directory: e.Dir, the home of a login, or the root directory. A missing home does not
// keep a user out (see login(1)); a missing e.Dir is an error.
func (e entry) enterDir(u user) error {
	switch {
	case e.Dir != "":
		if err := os.Chdir(e.Dir); err != nil {
			return fmt.Errorf("working directory %q: %w", e.Dir, errors.Unwrap(err))
		}
		return nil
	case e.Login && os.Chdir(u.Home) == nil:
		return nil
	default:
		return os.Chdir("/")
	}
}

// execute replaces the process by the command. execute returns only on failure.
func (e entry) execute(u user, env []string) error {
	path, argv, err := e.command(u, env)
	if err != nil {
		return err
	}
	tellBegun()
	err = syscall.Exec(path, argv, env)
	if errors.Is(err, unix.ENOENT) { // the file exists; the interpreter in its first line or header is missing
		err = errors.New("its interpreter is missing")
	}
	return &failure{CodeNotRunnable, fmt.Sprintf("%s: %v", path, err)}
}

// command returns the program's path and its argv. The argv[0] of a login shell begins with "-".
func (e entry) command(u user, env []string) (path string, argv []string, err error) {
	if e.Login {
		path = u.loginShell()
		return path, []string{"-" + filepath.Base(path)}, nil
	}
	path, err = lookCommand(e.Argv[0], env)
	return path, e.Argv, err
}

// lookCommand finds a command in the directories of the PATH in env, or at its own path if name has a slash. The
// process looks with the rights it has at the moment, the user's. The error is a failure with CodeNotFound or
// CodeNotRunnable.
func lookCommand(name string, env []string) (string, error) {
	for _, v := range env {
		if search, ok := strings.CutPrefix(v, "PATH="); ok {
			if err := os.Setenv("PATH", search); err != nil {
				return "", err
			}
		}
	}
	path, err := exec.LookPath(name)
	switch {
	case err == nil, errors.Is(err, exec.ErrDot):
		return path, nil
	case errors.Is(err, exec.ErrNotFound):
		return "", &failure{CodeNotFound, fmt.Sprintf("%s: no such command in the box's PATH", name)}
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return "", &failure{CodeNotFound, fmt.Sprintf("%s: no such file in the box", name)}
	default:
		return "", &failure{CodeNotRunnable, fmt.Sprintf("%s: %v", name, errors.Unwrap(err))}
	}
}
