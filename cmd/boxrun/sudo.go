package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
	sudo, err := exec.LookPath("sudo")
	if err != nil || !term.IsTerminal(int(a.in.Fd())) {
		return fault.Refused("run it with sudo", "%s needs root", verb)
	}
	// a.exe is the full path, as secure_path may lack /usr/local/bin.
	argv := underSudo(a.exe, os.Args[1:], operands(cmd, os.Args[1:]), found, a.search.Kept())
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

// underSudo returns the command that runs exe with args as root. The first operand of a name found in files is replaced by
// the file; a command for a box may have the same word again. dirs are further directories of profiles, for dependencies.
func underSudo(exe string, args []string, operands []int, files map[string]string, dirs []string) []string {
	argv := []string{"sudo", "--", exe}
	if len(dirs) > 0 {
		argv = append(argv, "--"+profilesFlag+"="+strings.Join(dirs, string(filepath.ListSeparator)))
	}
	args, files = slices.Clone(args), maps.Clone(files)
	for _, i := range operands {
		if file, ok := files[args[i]]; ok {
			delete(files, args[i])
			args[i] = file
		}
	}
	return append(argv, args...)
}

// operands returns the indexes of the operands of cmd in args: words that are neither the verb, nor flags, nor values of
// flags.
func operands(cmd *cobra.Command, args []string) []int {
	var found []int
	for i := 0; i < len(args); i++ {
		switch word := args[i]; {
		case word == "--":
			for i++; i < len(args); i++ {
				found = append(found, i)
			}
		case len(word) < 2 || word[0] != '-':
			found = append(found, i)
		case wantsValue(cmd.Flags(), word):
			i++
		}
	}
	verb := min(strings.Count(cmd.CommandPath(), " "), len(found))
	return found[verb:]
}

// wantsValue reports whether the value of the last flag in a word is the next word, as in "-n 5" and "--lines 5".
func wantsValue(flags *pflag.FlagSet, word string) bool {
	if name, long := strings.CutPrefix(word, "--"); long {
		f := flags.Lookup(name) // nil with a value in the word
		return f != nil && f.NoOptDefVal == ""
	}
	for i, letter := range word[1:] {
		if f := flags.ShorthandLookup(string(letter)); f != nil && f.NoOptDefVal == "" {
			return i+2 == len(word) // else the rest of the word is the value
		}
	}
	return false
}
