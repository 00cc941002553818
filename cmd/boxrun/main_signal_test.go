package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInterrupts sends signals to a process that works on after its context has ended.
func TestInterrupts(t *testing.T) {
	for _, c := range []struct {
		name, ignored string
		signals       []syscall.Signal
		want          string
	}{
		{"one ends the context", "", []syscall.Signal{syscall.SIGINT}, "ended; exit status 0"},
		{"the second Ctrl-C ends all", "", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, "ended; signal: interrupt"},
		{"a terminal's second SIGHUP does not", "", []syscall.Signal{syscall.SIGHUP, syscall.SIGHUP}, "ended; exit status 0"},
		{"nohup", "HUP", []syscall.Signal{syscall.SIGHUP}, "went on; exit status 0"},
		{"in the background", "INT", []syscall.Signal{syscall.SIGINT}, "went on; exit status 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := interrupted(t, c.ignored, c.signals); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// interrupted starts the test's program anew as waitForInterrupt, which ignores one signal, or none where that is "", and
// tells how it ended. What the test itself was started to ignore, as under nohup, counts for nothing.
func interrupted(t *testing.T, ignored string, signals []syscall.Signal) string {
	args := []string{"--default-signal=HUP,INT", os.Args[0]}
	if ignored != "" {
		args = slices.Insert(args, 1, "--ignore-signal="+ignored)
	}
	cmd := exec.Command("env", args...)
	cmd.Env = append(os.Environ(), waitVariable+"=1")
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	var word string
	read := func() { _, _ = fmt.Fscanln(out, &word) }
	read() // that it is ready
	for _, s := range signals {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		if ignored == "" && word == "ready" {
			read() // that it has ended
		}
		time.Sleep(300 * time.Millisecond) // it heeds Ctrl-C no more a moment after the context's end, and what is ignored never
	}
	in.Close()
	read()
	_ = cmd.Wait() // ProcessState tells
	return strings.ReplaceAll(word, "_", " ") + "; " + cmd.ProcessState.String()
}

// waitVariable has the test's program be waitForInterrupt.
const waitVariable = "BOXRUN_TEST_WAIT"

// waitForInterrupt says what becomes of its context until stdin ends, and with that ends itself.
func waitForInterrupt() {
	ctx, stop := untilInterrupted(context.Background())
	defer stop()
	fmt.Println("ready")
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case <-ctx.Done():
		fmt.Println("ended")
		<-over
	case <-over:
		fmt.Println("went_on")
	}
}
