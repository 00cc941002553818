package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// command is one run of "apptainer instance start".
type command struct {
	name    string        // of the instance
	image   string        // of the box's profile, for hints
	limit   time.Duration // how long the start may take
	log     string        // path of Apptainer's .err log
	logFrom int64         // where this start's lines begin in the log, in bytes

	stderr *bytes.Buffer
	done   chan struct{} // closed when the command has ended
	err    error         // valid once done is closed
	leave  func()        // ends the wait for it; nil for a child of ours
}

// run starts argv: as a service of the host's systemd, so that the box outlives the session, or as a child of ours where
// that is in such a service itself, or there is no systemd. The command is killed when ctx ends.
func (l *Launcher) run(ctx context.Context, b *Box, argv []string) (*command, error) {
	path, err := lookApptainer()
	if err != nil {
		return nil, err
	}
	c := startCommandOf(b)
	if b.Unit != "" && b.Unit != ownUnit() {
		err := l.runInUnit(ctx, b, c, append([]string{path}, argv[1:]...))
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		l.notef("%s: warning: it will end with this session: %v", b.Name, err)
		b.Unit = ""
	}
	return c, c.runHere(ctx, l.Home, path, argv)
}

// startCommandOf returns the command that starts a box, which does not run yet.
func startCommandOf(b *Box) *command {
	return newCommand(b.Name, b.Profile.Image, b.Log, b.LogFrom, bootTimeout(b.Profile))
}

// newCommand returns a command that does not run yet. image is that of the profile, for hints; the lines of this start begin
// at the byte logFrom of the .err log; limit is how long the start may take.
func newCommand(name, image, log string, logFrom int64, limit time.Duration) *command {
	return &command{
		name: name, image: image, log: log, logFrom: logFrom, limit: limit,
		stderr: new(bytes.Buffer), done: make(chan struct{}),
	}
}

// runHere starts argv in a process group of its own, so that a Ctrl-C reaches boxrun, which rolls back, and not the start.
// The command is killed when ctx ends.
func (c *command) runHere(ctx context.Context, home, path string, argv []string) error {
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Env = environment(home)
	cmd.Dir = "/"
	cmd.Stderr = c.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // the master may hold stderr open when the command line was killed
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("running %s: %w", path, err)
	}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	return nil
}

// record waits for Apptainer's record of a live instance at path, while the command runs. It looks every 2 ms: the
// file appears some 200 ms before the command ends, and boxrun has work to do in that time.
func (c *command) record(ctx context.Context, path string) (record, error) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := readRecord(path)
		if err == nil {
			err = r.verify()
		}
		if err == nil {
			return r, nil
		}
		select {
		case <-c.done:
			return record{}, c.failed(fmt.Errorf("looking for Apptainer's record of it: %w", err))
		case <-ctx.Done():
			return record{}, c.cut(context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// left leaves a command line that systemd runs to end in its own time: it has nothing more to do but to sleep. false: it
// is a child of ours, which has to be reaped.
func (c *command) left() bool {
	if c.leave == nil {
		return false
	}
	c.leave()
	return true
}

// wait reaps the command, and gives the cause where it failed: the end of ctx, where that is what killed it.
func (c *command) wait(ctx context.Context) error {
	<-c.done
	if c.err == nil {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return c.cut(err)
	}
	return c.failed(c.err)
}

// cut gives the error of a start that was not waited for any longer.
func (c *command) cut(cause error) error {
	if !errors.Is(cause, context.DeadlineExceeded) {
		return cause // a person's interrupt
	}
	return &Problem{Kind: ErrNotStarted,
		Text: fmt.Sprintf("%s: the box did not start within %s", c.name, c.limit), Hint: startHint("", c.image)}
}

// failed gives the error of a start that failed: the cause as Apptainer's log has it, or else what it said on stderr,
// or else err.
func (c *command) failed(err error) error {
	cause := startCause(c.logged())
	if cause == "" {
		cause = startCause(c.stderr.String())
	}
	if cause == "" {
		cause = err.Error()
	}
	return &Problem{Kind: ErrNotStarted, Text: c.name + ": the box did not start: " + cause, Hint: startHint(cause, c.image)}
}

// logged gives what this start added to Apptainer's .err log; nothing where it cannot be read, as the caller has a
// second best.
func (c *command) logged() string {
	f, err := os.Open(c.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, c.logFrom, 1<<20))
	if err != nil {
		return ""
	}
	return string(text)
}

// startHint gives what to do about the commonest causes.
func startHint(cause, image string) string {
	if strings.Contains(cause, "no /sbin/init") {
		return "the image must bring an init: install systemd-sysv in it, or try the profile hello"
	}
	return fmt.Sprintf("look into the image: \"apptainer shell %s\"; \"boxrun up hello\" shows whether boxes work here at all", image)
}

// apptainerDirs is where apptainer is looked for beside $PATH: sudo's secure_path lacks some of these.
func apptainerDirs() []string {
	return append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/bin", "/usr/bin", "/opt/apptainer/bin")
}

// lookApptainer gives the path of the apptainer command.
func lookApptainer() (string, error) {
	for _, dir := range apptainerDirs() {
		path := filepath.Join(dir, "apptainer")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &Problem{
		Kind: ErrRefused,
		Text: "apptainer is not installed, or not on $PATH",
		Hint: "install the package apptainer (starter-suid is not needed)",
	}
}
