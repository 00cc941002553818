package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"boxrun/launcher/journal"
	"boxrun/profiles"
)

// Completions for a person who presses Tab in a shell. On any failure a completion offers nothing and prints nothing.

// completeProfiles completes names of profiles, without those in args. The shell itself completes paths of profiles.
func (a *app) completeProfiles(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	found, err := a.search.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []string
	for _, f := range found {
		if !slices.Contains(args, f.Name) {
			names = append(names, f.Name+"\t"+f.Description)
		}
	}
	return names, cobra.ShellCompDirectiveDefault
}

// completeBoxes completes names of boxes, without those in args.
func (a *app) completeBoxes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names, _ := a.boxNames() // names that could be read are returned beside an error
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) })
	return names, cobra.ShellCompDirectiveNoFileComp
}

// first limits a completion to the first argument.
func first(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, word)
	}
}

// unitsTimeout is how long a person waits for the completion of units.
const unitsTimeout = time.Second

// completeUnits completes the units of the boxes in args, for root, as asked of the systemd in each box. Without args,
// as in "logs -u UNIT web", the units of all boxes are offered: shells do not say which box follows the flag.
func (a *app) completeUnits(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), unitsTimeout)
	defer cancel()
	names := args
	if len(names) == 0 {
		names, _ = a.boxNames() // names that could be read are returned beside an error
	}
	var units []string
	for _, arg := range names {
		all, _ := journal.Units(ctx, a.launcher().Store, profiles.BoxName(arg))
		for _, u := range all {
			if strings.HasPrefix(u.Name, word) && !slices.Contains(units, u.Name+"\t"+u.Description) {
				units = append(units, u.Name+"\t"+u.Description)
			}
		}
	}
	return units, cobra.ShellCompDirectiveNoFileComp
}
