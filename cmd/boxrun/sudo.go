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

// needRoot makes sure that verb runs as root. On a terminal without root, boxrun replaces itself by boxrun under sudo.
// needRoot returns nil as root, and an error where boxrun cannot become root. As root it also sets the umask to 022:
// records are readable for everybody on the host and files of a box for its users, whatever the person's umask.
//
// names are the profiles the verb reads. The profiles are found before sudo and handed on by path, as sudo drops the
// environment.
func (a *app) needRoot(verb string, names ...string) error {
	if os.Geteuid() == 0 {
		unix.Umask(0o022)
		return nil
	}
	found, err := resolved(a.search, names)
	if err != nil {
		return err
	}
	sudo, err := exec.LookPath("sudo")
	if err != nil || !term.IsTerminal(int(a.in.Fd())) {
		return &fault.Problem{Kind: fault.ErrRefused, Text: verb + " needs root", Hint: "run it with sudo"}
	}
	// a.exe is the full path, as secure_path may lack /usr/local/bin.
	argv := underSudo(a.exe, verb, os.Args[1:], found, a.search.Kept())
	a.notef("%s needs root: %s", verb, files.QuoteAll(argv))
	return fmt.Errorf("running sudo: %w", syscall.Exec(sudo, argv, os.Environ()))
}

// underSudo returns the command that runs exe with args as root. Arguments found in files are replaced by their files.
// The verb is kept even where a profile has the same name. dirs are further directories of profiles, for dependencies.
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
