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

// What a shell asks for when a person presses Tab. Whatever goes wrong, there is then nothing to offer, and nothing said.

// A completion gives what may stand in the place of word, behind args.
type completion = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

// completeProfiles completes the names of profiles, each once; a path to one is completed by the shell.
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

// completeBoxes completes the names of boxes, each once.
func (a *app) completeBoxes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names, _ := a.boxNames(nil, true) // beside an error it gives what could be read
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) })
	return names, cobra.ShellCompDirectiveNoFileComp
}

// first completes the first argument alone.
func first(complete completion) completion {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, word)
	}
}

// unitsTimeout is how long a person waits for the completion of units.
const unitsTimeout = time.Second

// completeUnits completes the units of the boxes that are named, as their systemd has them, for root; of all boxes where
// none is named yet, as in "logs -u UNIT web". Of a box that is named behind the flag shells do not tell.
func (a *app) completeUnits(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	l, err := a.launcher()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), unitsTimeout)
	defer cancel()
	names, _ := a.boxNames(args, len(args) == 0) // beside an error it gives what could be read
	var units []string
	for _, arg := range names {
		all, err := journal.Units(ctx, l.Store, profiles.BoxName(arg))
		if err != nil {
			continue
		}
		for _, u := range all {
			if strings.HasPrefix(u.Name, word) && !slices.Contains(units, u.Name+"\t"+u.Description) {
				units = append(units, u.Name+"\t"+u.Description)
			}
		}
	}
	return units, cobra.ShellCompDirectiveNoFileComp
}
