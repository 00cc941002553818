// Command boxrun makes Apptainer containers that boot systemd as easy as docker compose up.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"boxrun/launcher/enter"
	"boxrun/launcher/process"
)

func main() {
	if code, inside := enter.Inside(os.Args, os.Stderr); inside {
		os.Exit(code)
	}
	os.Exit(run(os.Args[1:], newTerminal(os.Stdin, os.Stdout, os.Stderr)))
}

// run is the whole program: it gives the exit code. An interrupt ends the context of the verb, which undoes what it had
// begun; so does the signal by which systemd stops a box's service, where that is still starting.
func run(args []string, t *terminal) int {
	ctx, stop := untilInterrupted()
	defer stop()
	root := newRoot(t)
	if err := widenPath(); err != nil {
		return t.report(root, err)
	}
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return t.report(cmd, err)
}

// widenPath has programs be found where root's are, behind where the caller looks: on Debian the PATH of ordinary users,
// of su and of cron leads to neither iptables nor sysctl.
func widenPath() error {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return os.Setenv("PATH", strings.Join(dirs, string(filepath.ListSeparator)))
}

// untilInterrupted gives a context that ends with the first signal. From then on Ctrl-C ends boxrun at once; SIGHUP does
// not, as a terminal that is closed sends two. What boxrun was started to ignore, as by nohup, stays ignored.
func untilInterrupted() (ctx context.Context, stop context.CancelFunc) {
	signals := slices.DeleteFunc([]os.Signal{syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
	ctx, stop = signal.NotifyContext(context.Background(), append(signals, process.HaltSignal)...)
	if signal.Ignored(os.Interrupt) {
		return ctx, stop
	}
	ctx, yield := signal.NotifyContext(ctx, os.Interrupt)
	context.AfterFunc(ctx, yield)
	return ctx, stop
}
