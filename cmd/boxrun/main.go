package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"boxrun/launcher/enter"
	"boxrun/launcher/process"
	"boxrun/launcher/units"
)

func main() {
	if code, inside := enter.Inside(os.Args, os.Stderr); inside {
		os.Exit(code)
	}
	enter.KeepToSelf()
	process.OneProcessor()
	os.Exit(run(os.Args[1:], newTerminal(os.Stdin, os.Stdout, os.Stderr)))
}

// run runs the verb that args name and returns the exit code of boxrun. A signal ends the context of the verb, and the
// verb then undoes what was begun. Besides an interrupt this includes process.HaltSignal, with which systemd stops the
// service of a box that is still starting. The exit code then tells the service so.
func run(args []string, t *terminal) int {
	halted, deaf := signal.NotifyContext(context.Background(), process.HaltSignal)
	defer deaf()
	ctx, stop := untilInterrupted(halted)
	defer stop()
	exe, err := os.Executable()
	root := newRoot(t, exe)
	if err == nil {
		err = widenPath()
	}
	if err != nil {
		return t.report(root, err)
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	code := t.report(cmd, err)
	if halted.Err() != nil && errors.Is(err, context.Canceled) {
		return units.ExitHalted
	}
	return code
}

// widenPath appends root's directories of programs to $PATH. On Debian the PATH of ordinary users, of su and of cron
// leads to neither iptables nor sysctl. Directories already in $PATH keep their place.
func widenPath() error {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return os.Setenv("PATH", strings.Join(dirs, string(filepath.ListSeparator)))
}

// untilInterrupted returns a context that ends with parent, or with the first signal. From then on Ctrl-C ends boxrun at once. SIGHUP
// does not, as closing a terminal sends two. Signals that boxrun was started to ignore, as by nohup, stay ignored.
func untilInterrupted(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	signals := slices.DeleteFunc([]os.Signal{syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
	ctx, stop = signal.NotifyContext(parent, signals...)
	if signal.Ignored(os.Interrupt) {
		return ctx, stop
	}
	ctx, yield := signal.NotifyContext(ctx, os.Interrupt)
	context.AfterFunc(ctx, yield)
	return ctx, stop
}
