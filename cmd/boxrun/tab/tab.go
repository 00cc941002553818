package tab

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"boxrun/launcher/box"
	"boxrun/launcher/journal"
	"boxrun/launcher/kept"
	"boxrun/launcher/list"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

// Of completes words of boxes and profiles. The function returns the store to look in.
type Of func() *box.Store

// names offers words not yet in args. The shell itself completes paths of profiles.
func names(offered, args []string, d cobra.ShellCompDirective) ([]string, cobra.ShellCompDirective) {
	return slices.DeleteFunc(offered, func(name string) bool {
		word, _, _ := strings.Cut(name, "\t")
		return slices.Contains(args, word)
	}), d
}

// Profiles completes names of profiles.
func (o Of) Profiles(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return o.profiles(o().Search, args, cobra.ShellCompDirectiveDefault, func(profiles.Found) bool { return true })
}

// Enable completes what can be enabled: profiles of the host, without the enabled profiles.
func (o Of) Enable(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return o.profiles(profiles.OfHost(), args, cobra.ShellCompDirectiveNoFileComp, func(f profiles.Found) bool {
		return f.Err == nil && units.EnabledAs(f.Name) == ""
	})
}

// Disable completes what is enabled.
func (o Of) Disable(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return names(units.EnabledNames(), args, cobra.ShellCompDirectiveNoFileComp)
}

// Build completes names of profiles with a definition.
func (o Of) Build(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return o.profiles(o().Search, args, cobra.ShellCompDirectiveDefault, func(f profiles.Found) bool {
		p, err := profiles.Ref{File: f.File}.Read()
		return err == nil && p.Build.Definition != ""
	})
}

// profiles completes names of profiles, as search finds them and fits agrees.
func (o Of) profiles(
	search profiles.Search, args []string, d cobra.ShellCompDirective, fits func(profiles.Found) bool,
) ([]string, cobra.ShellCompDirective) {
	found, _ := search.List()
	found = slices.DeleteFunc(found, func(f profiles.Found) bool { return f.ShadowedBy != "" || !fits(f) })
	return names(list.Map(found, func(f profiles.Found) string { return f.Name + "\t" + f.Description }), args, d)
}

// Boxes completes names of boxes.
func (o Of) Boxes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return names(o.boxes(), args, cobra.ShellCompDirectiveNoFileComp)
}

func (o Of) boxes() []string {
	boxes, _ := o().All() // beside an error All returns what could be read
	return box.Names(boxes)
}

// Logs completes names of boxes, and names of kept journals.
func (o Of) Logs(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	offered := o.boxes()
	items, _ := kept.Of(o()).Find(nil)
	for _, i := range items {
		if strings.HasPrefix(i.Name, i.Box+"/journal") && !slices.Contains(offered, i.Box) {
			offered = append(offered, i.Box)
		}
	}
	return names(offered, args, cobra.ShellCompDirectiveNoFileComp)
}

// First limits a completion to the first argument.
func First(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, word)
	}
}

// patience is how long a person waits for a box to answer.
const patience = time.Second

// Units completes the units of the boxes in args, for root, as asked of the systemd in each box. Without args, as in
// "logs -u UNIT web", the units of all boxes are offered: shells do not say what follows the flag.
func (o Of) Units(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var offered []string
	for _, name := range o.named(args) {
		all, _ := journal.Units(ctx, o(), name)
		for _, u := range all {
			if strings.HasPrefix(u.Name, word) && !slices.Contains(offered, u.Name+"\t"+u.Description) {
				offered = append(offered, u.Name+"\t"+u.Description)
			}
		}
	}
	return offered, cobra.ShellCompDirectiveNoFileComp
}

// named returns the boxes named by args; all boxes where there are no args.
func (o Of) named(args []string) []string {
	if len(args) > 0 {
		return list.Map(args, profiles.BoxName)
	}
	return o.boxes()
}

// Users completes users of the boxes in args, for root; without args of all boxes, as Units does.
func (o Of) Users(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var offered []string
	for _, name := range o.named(args[:min(len(args), 1)]) {
		for _, user := range o.usersIn(name) {
			if !slices.Contains(offered, user) {
				offered = append(offered, user)
			}
		}
	}
	return offered, cobra.ShellCompDirectiveNoFileComp
}

// Copy completes a side of a copy: boxes up to the colon and paths in them behind it, for root, or files of the host.
// Beside a side in a box the other side is on the host.
func (o Of) Copy(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	name, path, inBox := BoxPath(word)
	fromBox := false
	if len(args) == 1 {
		_, _, fromBox = BoxPath(args[0])
	}
	switch {
	case len(args) > 1 || inBox && fromBox:
		return nil, cobra.ShellCompDirectiveNoFileComp
	case inBox:
		paths := o.pathsIn(name, path, strings.TrimSuffix(word, path))
		if slices.ContainsFunc(paths, func(path string) bool { return strings.HasSuffix(path, "/") }) {
			return paths, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp // a path goes on
		}
		return paths, cobra.ShellCompDirectiveNoFileComp
	case fromBox || strings.ContainsAny(word, ":/."):
		return nil, cobra.ShellCompDirectiveDefault
	}
	files, _ := filepath.Glob(word + "*") // nothing for a word that is no valid pattern, and so no file's name
	return append(list.Map(o.boxes(), func(name string) string { return name + ":" }), files...), cobra.ShellCompDirectiveNoSpace
}

// BoxPath splits PROFILE:PATH and returns the name of the box and the path in it. A word with a slash or a dot before
// its first colon is a path of the host: ok is false.
func BoxPath(word string) (box, path string, ok bool) {
	name, path, ok := strings.Cut(word, ":")
	if !ok || name == "" || strings.ContainsAny(name, "/.") {
		return "", "", false
	}
	return profiles.BoxName(name), path, true
}

// Words offers the given words.
func Words(words ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
}

// Flags registers a completion for flags of cmd by name.
func Flags(cmd *cobra.Command, complete cobra.CompletionFunc, flags ...string) {
	for _, name := range flags {
		_ = cmd.RegisterFlagCompletionFunc(name, complete) // cannot fail: the flag is there, and has no function yet
	}
}

// Finish has all other flags below root offer no files, as none takes a file. For a shell the help of flags loses the
// quotes around the words for values.
func Finish(root *cobra.Command, forShell bool) {
	root.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() != "bool" {
			_ = root.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions) // fails where there is a function already
		}
		if forShell {
			f.Usage = strings.ReplaceAll(f.Usage, "`", "")
		}
	})
	for _, cmd := range root.Commands() {
		Finish(cmd, forShell)
	}
}
