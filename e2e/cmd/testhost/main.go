// Command testhost boots a test host with boxrun installed, for people. Package testhost makes the host; this command
// only uses the host. Begin reading at run.
//
//	testhost demo     shows boxrun at work, each step as a person would type it, and exits 1 at the first failure
//	testhost shell    opens a shell on the host; the host is removed when the shell ends
//	testhost bench    measures boxrun beside Apptainer alone, Podman and systemd-nspawn, and all below, and prints tables
//	testhost flow     measures throughput into boxes and out of them alone, and prints a table
//	testhost crowd    measures fifty boxes at once beside Podman, and connections beside them, and prints a table
//
// The command needs root, and bin/boxrun and bin/probe as "make build" leaves them.
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
	kind := flags.String("host", "debian13", "`kind` of the host: debian13, neighbours, tunnelled, rivals, cluster, debian12, debian11, sid")
	rounds := flags.Int("rounds", 15, "rounds to measure in bench")
	page := flags.String("page", "", "`file` in whose places for figures bench and flow write, and a chart beside it")
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
		verb = func(ctx context.Context, h *testhost.Host) error { return bench(ctx, h, *bin, *rounds, *page) }
		*kind = "rivals"
	case "crowd":
		verb = func(ctx context.Context, h *testhost.Host) error { return crowd(ctx, h, *bin, *rounds, *page) }
		*kind = "rivals"
	case "flow":
		verb = func(ctx context.Context, h *testhost.Host) error { return flow(ctx, h, *bin, *rounds, *page) }
	default:
		return errors.New("usage: testhost [-bin DIR] [-host KIND] [-rounds N] demo | shell | bench | flow | crowd")
	}
	return withHost(ctx, *kind, *bin, verb)
}

// kinds returns what boots each kind of host.
func kinds() map[string]func(context.Context, func(string)) (*testhost.Host, error) {
	return map[string]func(context.Context, func(string)) (*testhost.Host, error){
		"debian13": testhost.New, "neighbours": testhost.NewWithNeighbours, "tunnelled": testhost.NewTunnelled,
		"rivals": testhost.NewWithRivals, "managers": testhost.NewWithManagers, "further": testhost.NewWithFurther,
		"cluster":  testhost.NewForCluster,
		"debian12": testhost.NewDebian12, "debian11": testhost.NewDebian11, "sid": testhost.NewSid,
	}
}

// withHost boots a host of a kind with the programs of bin installed, calls verb, and removes the host.
func withHost(ctx context.Context, kind, bin string, verb func(context.Context, *testhost.Host) error) error {
	boot, known := kinds()[kind]
	if !known {
		return fmt.Errorf("no kind of host is called %q", kind)
	}
	h, err := boot(ctx, func(step string) { fmt.Fprintln(os.Stderr, "testhost:", step) })
	if err != nil {
		return err
	}
	err = h.Install(ctx, bin)
	if err == nil {
		err = verb(ctx, h)
	}
	return errors.Join(err, h.Close())
}

// shell runs a shell of the host on the caller's terminal. script gives the shell a terminal of the host, so that jobs
// and "tty" work there.
func shell(ctx context.Context, h *testhost.Host) error {
	fmt.Printf("A host with boxrun and a profile named web. Its client is another terminal's\n"+
		"    ip netns exec %s-c bash\nwhich reaches it as %s. Leave with exit.\n", h.Name(), testhost.HostAddr)
	cmd := h.Command(ctx, "script", "-qc", "bash -l", "/dev/null")
	cmd.SysProcAttr.Setpgid = false // to stay in the terminal's foreground
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
