// Command boxrun makes Apptainer containers that boot systemd as easy as docker compose up.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"boxrun/launcher"
)

func main() {
	if code, inside := launcher.Inside(os.Args, os.Stderr); inside {
		os.Exit(code)
	}
	os.Exit(run(os.Args[1:], newTerminal(os.Stdin, os.Stdout, os.Stderr)))
}

// run is the whole program: it gives the exit code. An interrupt ends the context of the verb, which undoes what it had
// begun; so does the signal by which systemd stops a box's service, where that is still starting.
func run(args []string, t *terminal) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, launcher.HaltSignal)
	defer stop()
	root := newRoot(t)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return t.report(cmd, err)
}
