package testhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"boxrun/launcher/process"
)

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int // the exit code; 128 and the signal after death by a signal
}

// String returns the result as a person would have seen it.
func (r Result) String() string {
	return fmt.Sprintf("exit code %d\nstdout:\n%s\nstderr:\n%s", r.Code, r.Stdout, r.Stderr)
}

// Exec runs a command on the host as root, without a terminal and with an empty stdin, until the command ends or ctx is
// done. A failing command is a Result. The error is for a command that could not run or did not end in time.
func (h *Host) Exec(ctx context.Context, argv ...string) (Result, error) {
	return outcome(ctx, h.Command(ctx, argv...))
}

// Client runs a command of the machine on the client host.
func (h *Host) Client(ctx context.Context, argv ...string) (Result, error) {
	return outcome(ctx, h.ClientCommand(ctx, argv...))
}

// Command returns a command that runs argv on the host as root, for the caller to connect and start. The command has
// its own process group, killed when ctx is done.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return h.enter(ctx, []string{"-m", "-u", "-i", "-n", "-p", "-C"}, argv)
}

// enter returns a command that runs argv in namespaces of the host. namespaces are flags of nsenter.
func (h *Host) enter(ctx context.Context, namespaces, argv []string) *exec.Cmd {
	place := []string{"env", "-i", "-C", "/root"}
	cmd := bounded(ctx, "nsenter", slices.Concat([]string{"-t", strconv.Itoa(h.init)}, namespaces, place, environment(), argv))
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(h.session.Fd())
	return cmd
}

// ClientCommand is Command for the client host. The client has the files of the machine.
func (h *Host) ClientCommand(ctx context.Context, argv ...string) *exec.Cmd {
	return bounded(ctx, "nsenter", append([]string{"--net=" + netnsPath(clientName(h.name))}, argv...))
}

// environment returns the environment of root's login on Debian.
func environment() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash", "LANG=C.UTF-8", "TERM=xterm",
	}
}

// bounded returns a command with a process group that ends with ctx. Wait does not hang on a pipe that a daemon kept
// open.
func bounded(ctx context.Context, name string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = 3 * time.Second
	return cmd
}

func killGroup(cmd *exec.Cmd) error {
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// outcome runs cmd, made with ctx, to its end.
func outcome(ctx context.Context, cmd *exec.Cmd) (Result, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	if cmd.ProcessState != nil {
		r.Code = process.ExitCode(cmd.ProcessState)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("running %s: %w\n%v", strings.Join(cmd.Args, " "), err, r)
	}
	return r, nil
}

// Borrow returns a command that runs on the client, with a program of the host's disk. The host may be off.
func (h *Host) Borrow(ctx context.Context, argv ...string) *exec.Cmd {
	return h.ClientCommand(ctx, append([]string{"chroot", h.Root()}, argv...)...)
}

// Root returns the path of the host's root file system on the machine, which others may enter for its programs.
func (h *Host) Root() string { return h.path("disk/root") }

// Inside returns where on the machine a path of a host that runs is, such as one of its /run or /sys, to be read from there.
func (h *Host) Inside(path string) string { return fmt.Sprintf("/proc/%d/root%s", h.init, path) }

// Write makes a file of the host, and the directories above.
func (h *Host) Write(ctx context.Context, path string, mode os.FileMode, content io.Reader) error {
	cmd := h.Command(ctx, "install", "-D", "-m", fmt.Sprintf("%o", mode), "/dev/stdin", path)
	cmd.Stdin = content
	r, err := outcome(ctx, cmd)
	if err == nil && r.Code != 0 {
		err = errors.New(strings.TrimSpace(r.Stderr))
	}
	if err != nil {
		return fmt.Errorf("writing %s on %s: %w", path, h.name, err)
	}
	return nil
}

// Copy copies a file of the machine to the host, with its mode.
func (h *Host) Copy(ctx context.Context, src, dst string) error {
	file, err := os.Open(src)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return h.Write(ctx, dst, info.Mode().Perm(), file)
}

// CopyTree copies a file or directory of the machine to the host, with all contents and attributes. CopyTree writes to
// the host's disk directly.
func (h *Host) CopyTree(src, dst string) error {
	place := h.file(dst)
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return err
	}
	return run("cp", "-aT", src, place)
}

// file returns where on the machine a file of the host's disk is.
func (h *Host) file(path string) string {
	if below, ok := strings.CutPrefix(path, "/var/"); ok {
		return h.path("disk/var", below)
	}
	return h.path("disk/root", path)
}
