package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/say"
)

// argv returns the command for building with the apptainer at the given path. The build runs in process and mount
// namespaces of its own: however the build ends, all processes started by the definition's scripts end with it, and
// all their mounts are gone.
func (j building) argv(apptainer string) []string {
	argv := []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", apptainer, "build"}
	if j.sandbox {
		argv = append(argv, "--sandbox")
	}
	return append(argv, j.made(), j.definition())
}

// environment returns the variables of a build: the variables of a start without container=, TMPDIR for Apptainer's
// temporary files, and the proxies from the environment of boxrun, because definitions download files.
func (j building) environment() (env, proxies []string) {
	for _, name := range []string{
		"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
		"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
	} {
		if value, ok := os.LookupEnv(name); ok {
			proxies = append(proxies, name+"="+value)
		}
	}
	return append(apptainer.CommonEnvironment(j.store.Home), "TMPDIR="+j.temporary()), proxies
}

// run runs Apptainer and passes all its output to Show. The error is ErrBuild, or the cause of ctx where ctx ended.
//
// Apptainer runs in a session of its own, so it has no terminal to ask questions at. A Ctrl-C does not reach this
// session either: boxrun ends the build. The kernel kills the build when boxrun is killed. The kernel ties this to
// the thread that started the build, so the goroutine stays locked to its thread.
func (j building) run(ctx context.Context) error {
	unshare, err := lookUnshare()
	apptainer, lookErr := apptainer.Look()
	if err := cmp.Or(err, lookErr); err != nil {
		return err
	}
	stdout, stderr := j.shown(), j.shown()
	cmd := exec.CommandContext(ctx, unshare, j.argv(apptainer)[1:]...)
	env, proxies := j.environment()
	cmd.Env, cmd.Dir = slices.Concat(env, proxies), j.dir()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second // until all processes in its namespace are gone
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	_, _ = stdout.End(), stderr.End() // Show never fails
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return j.failed(stderr.fatal, err)
	}
	return nil
}

// said is an output of a build.
type said struct {
	say.LineWriter
	fatal string // the last line in which Apptainer says why the build failed
}

// shown returns an output that passes its lines to j.Show. A definition is written by one person and run by another:
// nothing that a terminal takes for a command is left, but colours.
func (j building) shown() *said {
	s := &said{}
	s.Show = func(line string) error {
		line = say.Final(line)
		if _, why, ok := strings.Cut(say.Plain(line), "FATAL:"); ok {
			s.fatal = strings.TrimSpace(why)
		}
		j.Show(say.Coloured(line))
		return nil
	}
	return s
}

// failed returns the error of a failed build. Its text is fatal, Apptainer's last word, or, where fatal is empty, how
// the command ended.
func (j building) failed(fatal string, err error) error {
	hint := j.advice(fatal) + "; the image is as it was"
	if !files.Exists(j.image) {
		hint = j.advice(fatal) + "; there is no image yet"
	}
	if fatal == "" {
		fatal = fmt.Sprintf("apptainer build failed: %v", err)
	}
	text := fmt.Sprintf("%s: %s was not built: %s", j.profile.Name, j.image, fatal)
	return &fault.Problem{Kind: fault.ErrBuild, Text: text, Hint: hint}
}

// advice returns the hint for a build that ended with the message fatal.
func (j building) advice(fatal string) string {
	var fs unix.Statfs_t
	full := unix.Statfs(j.work(), &fs) == nil && fs.Bavail < 256 // in blocks: the free space when the build gave up
	switch {
	case full || strings.Contains(strings.ToLower(fatal), "no space left"):
		return fmt.Sprintf("no space is left in %s, where a build needs room for the unpacked image too",
			filepath.Dir(j.image))
	case strings.Contains(fatal, "debootstrap is not in PATH"):
		return "install the package debootstrap (Rocky Linux and its kin have it in EPEL)"
	}
	return "what it said is above"
}

// lookUnshare returns the path of unshare. A missing unshare is an error with the hint to install util-linux.
func lookUnshare() (string, error) {
	path, err := exec.LookPath("unshare")
	if errors.Is(err, exec.ErrNotFound) {
		return "", fault.Refused("install the package util-linux", "unshare is not installed, or not on $PATH")
	}
	return path, err
}
