package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/say"
)

// argv gives the command that builds with the apptainer at that path. It runs in process and mount namespaces of its own:
// whatever ends it, all that the definition's scripts have started ends with it, and what they have mounted is gone.
func (j building) argv(apptainer string) []string {
	argv := []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", apptainer, "build"}
	if j.sandbox {
		argv = append(argv, "--sandbox")
	}
	return append(argv, j.made(), j.definition())
}

// buildEnvironment gives the variables of a build: those of a start but for container=, where Apptainer's temporary files
// go, and the proxies of whoever runs boxrun, as a definition fetches things.
func buildEnvironment(s *box.Store, j building) []string {
	env := append(apptainer.CommonEnvironment(s.Home), "TMPDIR="+j.temporary())
	for _, name := range proxyVariables() {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func proxyVariables() []string {
	return []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"}
}

// runBuild runs Apptainer, and shows on out all it says. Its error is ErrBuild, or the cause of ctx's end.
//
// It has no terminal to ask at, as its session is its own, which also keeps a Ctrl-C from it: boxrun ends it. With boxrun
// it is killed too; the kernel sees that by the thread that has started it.
func runBuild(ctx context.Context, s *box.Store, j building, out io.Writer) error {
	unshare, err := lookUnshare()
	if err != nil {
		return err
	}
	apptainer, err := apptainer.Look()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, unshare, j.argv(apptainer)[1:]...)
	cmd.Env, cmd.Dir = buildEnvironment(s, j), j.dir()
	said := new(lastWords)
	cmd.Stdout, cmd.Stderr = out, io.MultiWriter(out, said.lines())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second // for all in its namespace to be gone
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return j.failed(said.fatal, err)
}

// failed gives the error of a build that failed: Apptainer's last word, or else how it ended.
func (j building) failed(fatal string, err error) error {
	hint := j.advice(fatal) + "; the image is as it was"
	if fatal == "" {
		fatal = fmt.Sprintf("apptainer build failed: %v", err)
	}
	return &fault.Problem{Kind: fault.ErrBuild, Text: fmt.Sprintf("%s: %s was not built: %s", j.profile.Name, j.image, fatal), Hint: hint}
}

// advice says what to do about a build that gave up with that last word.
func (j building) advice(fatal string) string {
	var fs unix.Statfs_t
	full := unix.Statfs(j.work(), &fs) == nil && fs.Bavail < 256 // blocks: what was left when it gave up
	switch {
	case full || strings.Contains(strings.ToLower(fatal), "no space left"):
		return fmt.Sprintf("no space is left in %s, where a build needs room for the unpacked image too", filepath.Dir(j.image))
	case strings.Contains(fatal, "debootstrap is not in PATH"):
		return "install the package debootstrap (Rocky Linux and its kin have it in EPEL)"
	}
	return "what it said is above"
}

// lastWords keeps the line in which Apptainer says why it gives up.
type lastWords struct{ fatal string }

func (w *lastWords) lines() io.Writer {
	return &say.LineWriter{Show: func(line string) error {
		if _, why, ok := strings.Cut(say.Plain(line), "FATAL:"); ok {
			w.fatal = strings.TrimSpace(why)
		}
		return nil
	}}
}

// lookUnshare gives the path of unshare.
func lookUnshare() (string, error) {
	path, err := exec.LookPath("unshare")
	if errors.Is(err, exec.ErrNotFound) {
		return "", fault.Refused("install the package util-linux", "unshare is not installed, or not on $PATH")
	}
	return path, err
}
