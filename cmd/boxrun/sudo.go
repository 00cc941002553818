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

// needRoot makes sure that a verb runs as root: on a terminal it runs boxrun again under sudo, with the command line
// as given but for the words in resolved, which sudo would find differently: it drops the environment and maybe the
// directory. It returns only when we are root, or cannot become it.
func (a *app) needRoot(verb string, resolved map[string]string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	sudo, err := exec.LookPath("sudo")
	if err != nil || !term.IsTerminal(int(a.in.Fd())) {
		return notRoot(verb)
	}
	exe, err := os.Executable()
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

func notRoot(verb string) error {
	return &launcher.Problem{Kind: launcher.ErrRefused, Text: verb + " needs root", Hint: "run it with sudo"}
}
