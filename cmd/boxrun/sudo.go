package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"boxrun/launcher/fault"
	"boxrun/launcher/files"
)

// needRoot makes sure that a verb runs as root: on a terminal it runs boxrun again under sudo. It returns only when we
// are root, or cannot become it. From then on what is made is open to be read, whatever the umask of the person: records
// are for everybody on the host, and the files of a box for its users.
func (a *app) needRoot(verb string) error { return a.needRootFor(verb, nil) }

// needRootFor is needRoot for a verb that reads profiles: they are found here and named by their paths there, as sudo
// drops the environment.
func (a *app) needRootFor(verb string, names []string) error {
	if os.Geteuid() == 0 {
		unix.Umask(0o022)
		return nil
	}
	resolved, err := a.resolved(names)
	if err != nil {
		return err
	}
	sudo, err := exec.LookPath("sudo")
	if err != nil || !term.IsTerminal(int(a.in.Fd())) {
		return &fault.Problem{Kind: fault.ErrRefused, Text: verb + " needs root", Hint: "run it with sudo"}
	}
	exe, err := os.Executable() // some secure_path lack /usr/local/bin
	if err != nil {
		return err
	}
	argv := underSudo(exe, verb, os.Args[1:], resolved, a.search.Kept())
	a.notef("%s needs root: %s", verb, files.QuoteAll(argv))
	return fmt.Errorf("running sudo: %w", syscall.Exec(sudo, argv, os.Environ()))
}

// underSudo gives the command that runs exe as root with args. What files has of them is named by its file; the verb
// stays, though a profile may be called the same. dirs are where else profiles are looked for: those that others depend on.
func underSudo(exe, verb string, args []string, files map[string]string, dirs []string) []string {
	argv := []string{"sudo", "--", exe}
	if len(dirs) > 0 {
		argv = append(argv, "--"+profilesFlag+"="+strings.Join(dirs, string(filepath.ListSeparator)))
	}
	at := slices.Index(args, verb)
	for i, arg := range args {
		if file, ok := files[arg]; ok && i != at {
			arg = file
		}
		argv = append(argv, arg)
	}
	return argv
}
