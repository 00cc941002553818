package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/habits"
	"boxrun/cmd/boxrun/tab"
	"boxrun/launcher/enter"
)

func cpCommand(a *app) *cobra.Command {
	setID, follow := false, false
	cmd := &cobra.Command{
		Use:   "cp PROFILE:SRC DST | SRC PROFILE:DST",
		Short: "Copy files and directories between a box and the host",
		Long: `cp copies a file, or a directory with all below it, between a box that is up and
the host, and keeps owners (by their numbers), modes, times and links. Extended
attributes are not kept, nor what is in them: ACLs, and capabilities of programs
(getcap), such as those of ping.

Where DST is a directory the copy goes into it under its own name, or with
"SRC/." what is in SRC does; else it becomes DST, whose parent must be there.
Directories that are there are merged, files are replaced; both keep their owner
and mode. Programs from a box lose set-user-ID and set-group-ID bits, unless
--setuid is given. Holes of sparse files stay holes. Paths in the box are from
its root, and links there lead where they do in the box. A path of the host
with a colon in it is written ./LIKE:THIS. Sockets and devices are left out,
with a note.

With - in place of a path of the host a tar goes to stdout, or comes from stdin
and is unpacked in the directory DST.`,
		Example: `  boxrun cp web:/etc/nginx/nginx.conf .
  boxrun cp ./nginx.conf web:/etc/nginx/
  boxrun cp web:/etc/nginx - > nginx.tar
  boxrun cp - web:/etc < nginx.tar`,
		Args:              args(cobra.ExactArgs(2)),
		ValidArgsFunction: a.tab().Copy,
		PreRunE:           a.asRoot,
		RunE: func(cmd *cobra.Command, words []string) error {
			box, c, err := transferOf(words[0], words[1])
			if err != nil {
				return err
			}
			if c.SetID, c.Follow = setID, follow; c.Out != nil && a.isTerminal() {
				return usageError{errors.New("a tar is for no terminal: send it to a file or a program")}
			}
			// As with exec, an interrupt reaches the process in the box first.
			return enter.Copy(context.WithoutCancel(cmd.Context()), a.launcher().Store, box, c)
		},
	}
	cmd.Flags().BoolVar(&setID, "setuid", false, "keep set-user-ID and set-group-ID bits of programs from a box")
	cmd.Flags().BoolVarP(&follow, "follow-link", "L", false, "copy what SRC leads to, where SRC is a link")
	habits.DoneAnyway(cmd, "recursive", "r")
	habits.DoneAnyway(cmd, "R", "R")
	habits.DoneAnyway(cmd, "archive", "a")
	habits.DoneAnyway(cmd, "preserve", "p")
	habits.DoneAnyway(cmd, "force", "f")
	return cmd
}

// transferOf parses the source and the target of a copy, and returns the name of the box too. Exactly one side must be
// in a box; anything else is a usageError. A path in the box is made absolute.
func transferOf(source, target string) (box string, t enter.Transfer, err error) {
	from, inSource, fromBox := tab.BoxPath(source)
	to, inTarget, toBox := tab.BoxPath(target)
	if source == "" || target == "" || fromBox == toBox {
		return "", t, usageError{errors.New("one of the two must be in a box, as PROFILE:/path, and the other one on the host")}
	}
	t = enter.Transfer{Source: inSource, Target: target}
	box, inBox := from, &t.Source
	if toBox {
		t = enter.Transfer{Source: source, Target: inTarget, Into: true}
		box, inBox = to, &t.Target
	}
	if *inBox == "" {
		return "", t, usageError{fmt.Errorf("there is no path behind the colon of %q", box+":")}
	}
	if !strings.HasPrefix(*inBox, "/") {
		*inBox = "/" + *inBox
	}
	switch "-" {
	case t.Source:
		t.In = os.Stdin
	case t.Target:
		t.Out = os.Stdout
	}
	return box, t, nil
}
