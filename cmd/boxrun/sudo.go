package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"boxrun/launcher/fault"
	"boxrun/launcher/files"
)

// asRoot makes sure that cmd runs as root. On a terminal without root, boxrun replaces itself by boxrun under sudo.
// asRoot returns nil as root, and an error where boxrun cannot become root. As root it also sets the umask to 022:
// records are readable for everybody on the host and files of a box for its users, whatever the person's umask.
func (a *app) asRoot(cmd *cobra.Command, _ []string) error { return a.asRootFor(cmd, nil) }

// asRootFor is asRoot for a verb that reads the profiles in names. The profiles are found before sudo and handed on by
// path, as sudo drops the environment.
func (a *app) asRootFor(cmd *cobra.Command, names []string) error {
	if a.caller.Root {
		unix.Umask(0o022)
		return nil
	}
	found, err := resolved(a.search, names)
	if err != nil {
		return err
	}
	_, verb, _ := strings.Cut(cmd.CommandPath(), " ") // such as "host setup"
	word := cmp.Or(cmd.CalledAs(), verb)              // as typed, maybe an alias
	sudo, err := exec.LookPath("sudo")
	if err != nil || !term.IsTerminal(int(a.in.Fd())) {
		return fault.Refused("run it with sudo", "%s needs root", verb)
	}
	// a.exe is the full path, as secure_path may lack /usr/local/bin.
	argv := underSudo(a.exe, word, os.Args[1:], found, a.search.Kept())
	a.notef("%s needs root: %s", verb, files.QuoteAll(argv))
	return fmt.Errorf("running sudo: %w", syscall.Exec(sudo, argv, os.Environ()))
}

// unless runs check only without the flag.
func unless(flag *bool, check verb) verb {
	return func(cmd *cobra.Command, names []string) error {
		if *flag {
			return nil
		}
		return check(cmd, names)
	}
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
