package main

import (
	"bufio"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/tab"
	"boxrun/launcher/fault"
	"boxrun/launcher/kept"
	"boxrun/launcher/list"
	"boxrun/launcher/units"
)

func keptCommand(a *app) *cobra.Command {
	list := a.withJSON(&cobra.Command{
		Use:   "list [NAME...]",
		Short: "List what boxes left on the host, with sizes and ages",
		Long: `list lists what boxes left on the host, and have there now: overlays,
directories below /var/lib/boxrun, journals, replaced images. NAME is a box, or
BOX/PART as listed.`,
		Example:           `  boxrun kept list`,
		ValidArgsFunction: a.completeKept,
		PreRunE:           a.asRoot,
		RunE: func(_ *cobra.Command, names []string) error {
			items, err := kept.Of(a.launcher().Store).Measured(names)
			if err != nil {
				return err
			}
			return a.table(items, 2, kept.Table(items))
		},
	})
	list.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "print names only")
	return group(&cobra.Command{
		Use:   "kept",
		Short: "List, export or remove what boxes that are down left",
		Long: `kept has what outlives "boxrun down": overlays, directories below
/var/lib/boxrun, journals, replaced images.`,
	}, list, keptExportCommand(a), keptRemoveCommand(a))
}

func keptExportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "export BOX/PART > FILE",
		Short: "Write a part as a tar, with holes and extended attributes",
		Long: `export writes one part of a box that is down as a tar to stdout.
"tar --xattrs --xattrs-include='*' -xf FILE" unpacks it, attributes included.`,
		Example:           `  boxrun kept export web/overlay > web.tar`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: tab.First(a.completeKept),
		PreRunE:           a.asRoot,
		RunE: func(cmd *cobra.Command, names []string) error {
			if a.isTerminal() {
				return usageError{errors.New("a tar is not for a terminal: add \"> FILE\"")}
			}
			items, err := kept.Of(a.launcher().Store).Find(names)
			if err != nil {
				return err
			}
			if len(items) > 1 {
				return usageError{fmt.Errorf("%s has several parts, name one: %s", names[0], keptNames(items))}
			}
			return kept.Of(a.launcher().Store).Export(cmd.Context(), items[0], a.out, a.err)
		},
	}
}

func keptRemoveCommand(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm NAME...",
		Aliases: []string{"remove"},
		Short:   "Remove what boxes that are down left, after a question",
		Long: `rm removes what the named boxes left, or the parts named BOX/PART. It asks
first; without a terminal -y has to say so. Nothing of a box that is up, or has
crashed and was not taken down, is removed.`,
		Example:           `  boxrun kept rm -y web/overlay`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeKept,
		PreRunE:           a.asRoot,
		RunE: func(cmd *cobra.Command, names []string) error {
			items, err := kept.Of(a.launcher().Store).Find(names)
			if err != nil {
				return err
			}
			for _, item := range items {
				if word := units.EnabledAs(item.Box); word != "" && item.UsedBy == "" {
					a.notef("%s: the next boot starts %s without it: \"boxrun disable %s\" ends that", item.Name, item.Box, word)
				}
			}
			if agreed, err := a.agrees(yes, "remove "+keptNames(items)); !agreed {
				return err
			}
			return fault.Each(items, func(item kept.Item) error {
				err := kept.Of(a.launcher().Store).Remove(cmd.Context(), item)
				if err == nil {
					a.notef("%s: is removed", item.Name)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// agrees asks the person at the terminal, unless yes is given. Without a terminal the error is a usageError.
func (a *app) agrees(yes bool, what string) (bool, error) {
	if yes {
		return true, nil
	}
	if !a.interactive() {
		return false, usageError{fmt.Errorf("there is no terminal to ask whether to %s: -y says so", what)}
	}
	fmt.Fprintf(a.err, "boxrun: %s? [y/N] ", what)
	answer, _ := bufio.NewReader(a.in).ReadString('\n') // no answer is no
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer == "y" || answer == "yes" {
		return true, nil
	}
	return false, codeError(exitFailed)
}

// keptNames returns the names of items for a person.
func keptNames(items []kept.Item) string {
	return strings.Join(list.Map(items, func(i kept.Item) string { return i.Name }), ", ")
}

// completeKept completes names of what can be removed.
func (a *app) completeKept(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	items, _ := kept.Of(a.launcher().Store).Find(nil)
	var names []string
	for _, i := range items {
		if (i.UsedBy == "" || cmd.Name() == "list") && !slices.Contains(args, i.Name) {
			names = append(names, i.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
