package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A command is started in a box by boxrun itself: Apptainer joins the namespaces and runs boxrun's executable, handed
// over as an open file, which needs nothing of the image. There it becomes the user, finds the command with the user's
// eyes and executes it. setpriv, su and env would be needed in every image otherwise; su would also open a session
// that holds up the box's shutdown.
const (
	enterFD   = 3
	enterPath = "/proc/self/fd/3"
	entryFD   = 4 // the entry, as JSON
	lineFD    = 5 // packets to boxrun outside
)

// entry is what the process inside is told.
type entry struct {
	Argv  []string
	Login bool
	User  string
	Dir   string
	Env   []string
	TTY   bool
	Term  string    // the value of TERM; "": none
	Copy  *transfer // instead of a command: the box's part of a copy
}

// entryOf gives what the process inside needs of e.
func entryOf(e Exec) entry {
	in := entry{Argv: e.Argv, Login: e.Login, User: e.User, Dir: e.Dir, Env: e.Env, TTY: e.TTY, Copy: e.copy}
	if e.TTY {
		in.Term = os.Getenv("TERM")
	}
	if e.TTY && in.Term == "" {
		in.Term = "xterm"
	}
	return in
}

// failure is why a command was not executed.
type failure struct {
	Code int
	Text string
}

func (f *failure) Error() string { return f.Text }

// Inside runs the parts of boxrun that belong into a box, when args, the process's own, say that this is one of them;
// else inside is false and nothing was done. The caller is to exit with code. What hello has to say goes to log.
func Inside(args []string, log io.Writer) (code int, inside bool) {
	switch {
	case args[0] == enterPath:
		return enter(), true
	case args[0] == helloPath && os.Getpid() == 1:
		return helloInit(log), true
	default:
		return 0, false
	}
}

// enter executes the command it is told. It returns where that failed, and has said so on the line; or after a copy.
func enter() int {
	runtime.LockOSThread() // capabilities are a thread's own, and the one that executes keeps them
	// A session of its own, so that the command's process group is known: it has the process's number.
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
		_ = unix.Send(lineFD, text, 0) // nobody left to tell
	}
	return f.Code
}

func readEntry() (entry, error) {
	text, err := io.ReadAll(io.NewSectionReader(os.NewFile(entryFD, "entry"), 0, 1<<30))
	if err != nil {
		return entry{}, err
	}
	var e entry
	return e, json.Unmarshal(text, &e)
}

// run becomes the user and executes the command, or does the copy.
func (e entry) run() error {
	if err := keepToSelf(); err != nil {
		return err
	}
	if e.Copy != nil {
		return e.Copy.inside()
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
	env := e.environ(u, boxLang())
	return e.execute(u, env)
}

// keepToSelf closes every file but the standard three to the command; Apptainer leaves some open as well.
func keepToSelf() error {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, f := range files {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// takeTerminal makes standard input the controlling terminal, and gives it to the user as login does: or else tmux,
// or a write to /dev/stderr, could not open it.
func (e entry) takeTerminal(u user) error {
	if !e.TTY {
		return nil
	}
	if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
		return os.NewSyscallError("TIOCSCTTY", err)
	}
	return os.NewSyscallError("fchown", unix.Fchown(0, u.UID, -1))
}

// enterDir changes to the working directory. A home that is missing is no reason to keep a user out (see login(1)).
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

// execute replaces the process by the command. It returns only a failure.
func (e entry) execute(u user, env []string) error {
	path, argv, err := e.command(u, env)
	if err != nil {
		return err
	}
	err = syscall.Exec(path, argv, env)
	switch {
	case errors.Is(err, unix.ENOENT): // it is there, so it is what its first line, or its header, names
		return &failure{CodeNotRunable, fmt.Sprintf("%s: its interpreter is missing", path)}
	default:
		return &failure{CodeNotRunable, fmt.Sprintf("%s: %v", path, err)}
	}
}

// command gives the program's path and its argv.
func (e entry) command(u user, env []string) (path string, argv []string, err error) {
	if e.Login {
		path = u.loginShell()
		return path, []string{"-" + filepath.Base(path)}, nil
	}
	path, err = lookCommand(e.Argv[0], valueOf(env, "PATH"))
	return path, e.Argv, err
}

// lookCommand finds a command on search, or at its own path, as seen by the process as it is now.
func lookCommand(name, search string) (string, error) {
	if err := os.Setenv("PATH", search); err != nil {
		return "", err
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
		return "", &failure{CodeNotRunable, fmt.Sprintf("%s: %v", name, errors.Unwrap(err))}
	}
}
