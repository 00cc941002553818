// Command testhost boots a test host with boxrun on it, for people:
//
//	testhost demo     shows boxrun at work, each step as it would be typed, and exits 1 at the first that fails
//	testhost shell    gives a shell on the host; it is gone when the shell ends
//	testhost bench    measures boxrun against Apptainer alone, and prints a table
//
// It needs root, and bin/boxrun and bin/probe as "make build" leaves them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"boxrun/e2e/testhost"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testhost:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	flags := flag.NewFlagSet("testhost", flag.ContinueOnError)
	bin := flags.String("bin", "bin", "`directory` of the binaries to install on the host")
	rounds := flags.Int("rounds", 15, "pairs to measure in bench")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var verb func(context.Context, *testhost.Host) error
	switch flags.Arg(0) {
	case "demo":
		verb = demo
	case "shell":
		verb = shell
	case "bench":
		verb = func(ctx context.Context, h *testhost.Host) error { return bench(ctx, h, *rounds) }
	default:
		return errors.New("usage: testhost [-bin DIR] [-rounds N] demo | shell | bench")
	}
	return withHost(ctx, *bin, verb)
}

// withHost boots a host with boxrun on it, has verb use it, and removes it.
func withHost(ctx context.Context, bin string, verb func(context.Context, *testhost.Host) error) error {
	h, err := testhost.New(ctx, func(step string) { fmt.Fprintln(os.Stderr, "testhost:", step) })
	if err != nil {
		return err
	}
	err = h.Install(ctx, bin)
	if err == nil {
		err = verb(ctx, h)
	}
	return errors.Join(err, h.Close())
}

// shell gives the caller's terminal a shell on the host. script makes that a terminal of the host's own, so that jobs and
// "tty" work there.
func shell(ctx context.Context, h *testhost.Host) error {
	fmt.Printf("A host with boxrun and a profile named web. Its client is another terminal's\n"+
		"    ip netns exec %s-c bash\nwhich reaches it as %s. Leave with exit.\n", h.Name(), testhost.HostAddr)
	cmd := h.Command(ctx, "script", "-qc", "bash -l", "/dev/null")
	cmd.SysProcAttr.Setpgid = false // to stay in the terminal's foreground
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
