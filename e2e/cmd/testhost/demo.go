package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"boxrun/e2e/testhost"
)

// step is a line that a person types somewhere.
type step struct {
	where command
	argv  []string
}

// command makes commands that run argv on the host or on the client.
type command struct {
	prompt string
	make   func(context.Context, ...string) *exec.Cmd
}

// demo brings boxes up on the host and fetches their pages on the client.
func demo(ctx context.Context, h *testhost.Host) error {
	host := command{"host# ", h.Command}
	client := command{"client$ ", h.ClientCommand}
	for _, s := range []step{
		{host, []string{"cat", "/etc/boxrun/profiles/web.toml"}},
		{host, []string{"boxrun", "up", "hello"}},
		{client, []string{"curl", "-sS", "http://" + testhost.HostAddr + ":8080/"}},
		{host, []string{"boxrun", "up", "web"}},
		{client, []string{"curl", "-sS", "http://" + testhost.HostAddr + "/"}},
		{host, []string{"boxrun", "ps"}},
		{host, []string{"boxrun", "exec", "web", "--", "systemctl", "is-system-running"}},
		{host, []string{"boxrun", "down", "hello", "web"}},
		{host, []string{"boxrun", "ps"}},
	} {
		if err := s.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// run prints the step as a person would type it, then the output and the time.
func (s step) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	line := strings.Join(s.argv, " ")
	fmt.Printf("\n%s%s\n", s.where.prompt, line)
	cmd := s.where.make(ctx, s.argv...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running %q: %w", line, err)
	}
	fmt.Printf("                                        (%.2f s)\n", time.Since(start).Seconds())
	return nil
}
