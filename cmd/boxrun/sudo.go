package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/term"

	"boxrun/launcher"
)

// needRoot makes sure that a verb runs as root: on a terminal it runs boxrun again under sudo. It returns only when we
// are root, or cannot become it.
func (a *app) needRoot(verb string) error { return a.needRootFor(verb, nil) }

// needRootFor is needRoot for a verb that reads profiles: they are found here and named by their paths there, as sudo
// drops the environment.
func (a *app) needRootFor(verb string, names []string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	resolved, err := a.resolved(names)
	if err != nil {
		return err
	}
	sudo, err := exec.LookPath("sudo")
	if err != nil || !term.IsTerminal(int(a.in.Fd())) {
		return &launcher.Problem{Kind: launcher.ErrRefused, Text: verb + " needs root", Hint: "run it with sudo"}
	}
	exe, err := os.Executable() // some secure_path lack /usr/local/bin
	if err != nil {
		return err
	}
	argv := []string{"sudo", "--", exe}
	for _, arg := range os.Args[1:] {
		if file, ok := resolved[arg]; ok {
			arg = file
		}
		argv = append(argv, arg)
	}
	a.notef("%s needs root: %s", verb, strings.Join(argv, " "))
	return fmt.Errorf("running sudo: %w", syscall.Exec(sudo, argv, os.Environ()))
}
