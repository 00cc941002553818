package habits

import (
	"cmp"
	_ "embed"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"boxrun/cmd/boxrun/first"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
)

//go:embed verbs.txt
var verbsText string

//go:embed flags.txt
var flagsText string

// foreignVerbs returns verbs of other tools, unknown to boxrun, and for each what boxrun does instead.
func foreignVerbs() map[string]string {
	verbs := map[string]string{}
	for line := range entries(verbsText) {
		words, instead, _ := strings.Cut(line, ": ")
		for _, verb := range strings.Fields(words) {
			verbs[verb] = instead
		}
	}
	return verbs
}

// entries yields the lines of a text, without comments.
func entries(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !yield(line) {
				return
			}
		}
	}
}

// Commands returns a hidden command for each foreign verb. The command takes any flags, and refuses with what to
// type.
func Commands(known Known) []*cobra.Command {
	var cmds []*cobra.Command
	for verb, instead := range foreignVerbs() {
		cmds = append(cmds, &cobra.Command{
			Use: verb, Short: instead, Hidden: true, DisableFlagParsing: true,
			RunE: func(_ *cobra.Command, words []string) error { return refusal(verb, words, known) },
		})
	}
	return cmds
}

// refusal says what to type in place of a foreign verb and the words behind the verb: with those words where boxrun knows what
// they mean.
func refusal(verb string, words []string, known Known) error {
	verbs := foreignVerbs()
	if verb == "compose" && len(words) > 0 && verbs[words[0]] != "" {
		verb, words = words[0], words[1:]
	}
	if instead := Instead(verb, words, known); instead != "" {
		return fault.Invalid("", "there is no verb %q: %s", verb, instead)
	}
	return fault.Invalid(first.Behind(verb, words), "there is no verb %q: %s", verb, verbs[verb])
}

// DoneAnyway gives cmd a hidden flag that asks for what cmd does anyway. A flag without a short form has the short form "".
func DoneAnyway(cmd *cobra.Command, name, short string) {
	cmd.Flags().BoolP(name, short, false, "done anyway")
	_ = cmd.Flags().MarkHidden(name) // cannot fail: the flag is there
}

// foreignFlag returns what to type instead of a flag of other tools behind a verb; "" for a flag of which nothing is known.
// What is said for the verb alone comes before what is said for any verb.
func foreignFlag(verb, flag string) string {
	ofAny := ""
	for line := range entries(flagsText) {
		verbs, rest, _ := strings.Cut(line, ": ")
		flags, instead, _ := strings.Cut(rest, ": ")
		typed := func(f string) bool { return strings.TrimLeft(f, "-") == flag }
		switch {
		case !slices.ContainsFunc(strings.Fields(flags), typed):
		case slices.Contains(strings.Fields(verbs), verb):
			return instead
		case verbs == "*":
			ofAny = instead
		}
	}
	return ofAny
}

// Hints returns what is said of foreign verbs and flags, with the words before.
func Hints() []string {
	return slices.Concat(slices.Collect(entries(verbsText)), slices.Collect(entries(formsText)), slices.Collect(entries(flagsText)))
}

// UserOfName says what to type for the user of a name such as "bob@web" behind a verb with a command; no command for shell.
func UserOfName(verb, user, box string, command []string) string {
	line := strings.Join(append([]string{verb, "-u", files.Quote(user), box}, behind(command)...), " ")
	return fmt.Sprintf("there is neither a box nor a profile named \"%s@%s\": \"%s\" enters %s as a user", user, box, line, box)
}

// behind returns the words of a command as they stand behind the name of a box.
func behind(command []string) []string {
	if len(command) == 0 {
		return nil
	}
	return []string{"--", files.QuoteAll(command)}
}

// UnitAsBox returns the error with what to type when the name of a unit stands where the name of a box does. The flags of logs
// stay as they were typed.
func UnitAsBox(logs *cobra.Command, unit, box string) error {
	line := logs.CommandPath()
	logs.LocalFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Changed && f.Value.Type() == "bool":
			line += " --" + f.Name
		case f.Changed:
			line += " --" + f.Name + "=" + files.Quote(f.Value.String())
		}
	})
	return &fault.Problem{Kind: fault.ErrNotFound, Text: fmt.Sprintf("there is neither a box nor a profile named %q", unit),
		Hint: fmt.Sprintf("\"%s -u %s %s\" prints the lines of a unit", line, files.Quote(unit), box)}
}

// Ago returns a time as journalctl takes it: of "5m", as Compose has five minutes ago, "-5m".
func Ago(at string) string {
	if d, err := time.ParseDuration(at); err == nil && d > 0 && at[0] != '+' {
		return "-" + at
	}
	return at
}

// CommandOfShell says what to type when a command stands behind the name of the box, as in "shell bob@web id".
func CommandOfShell(words []string, user string, known Known) string {
	name := words[0]
	if of, box, at := strings.Cut(name, "@"); at && known != nil {
		_, isName := known(name)
		if _, isBox := known(box); isBox && !isName {
			user, name = of, box
		}
	}
	line := []string{"boxrun exec"}
	if user != "" {
		line = append(line, "-u", files.Quote(user))
	}
	return fmt.Sprintf("shell takes no command: \"%s\" runs one", strings.Join(append(append(line, name), behind(words[1:])...), " "))
}

// MeantFlag guesses the flag of cmd meant by the user, as text to append to the error; "" where no flag is near.
func MeantFlag(cmd *cobra.Command, unknown *pflag.NotExistError) string {
	word := unknown.GetSpecifiedName()
	if group := unknown.GetSpecifiedShortnames(); len(group) > 1 {
		word, _, _ = strings.Cut(group, "=") // a long flag may have been typed with one dash
	}
	if verb := cmd.Flags().Arg(0); !cmd.HasParent() && verb != "" { // the words before the unknown flag
		return fmt.Sprintf(": there is no verb %q%s", verb, MeantVerb(cmd, verb))
	}
	if cmd.Name() == "shell" && cmd.Flags().NArg() > 1 {
		return ": " + CommandOfShell([]string{cmd.Flags().Arg(0), "COMMAND..."}, "", nil) // words behind the flag are not known
	}
	if instead := cmp.Or(foreignFlag(cmd.Name(), word), foreignFlag(cmd.Name(), unknown.GetSpecifiedName())); instead != "" {
		return ": " + instead
	}
	flags := shownFlags(cmd)
	flag := nearest(word, flags)
	part := func(f string) bool {
		return len(word) > 1 && (strings.HasPrefix(f, word) || strings.HasSuffix(f, "-"+word))
	}
	if i := slices.IndexFunc(flags, part); flag == "" && i >= 0 {
		flag = flags[i]
	}
	if flag != "" {
		return fmt.Sprintf(", did you mean --%s?", flag)
	}
	return flagOfVerbs(cmd, word)
}

// flagOfVerbs says that a flag belongs behind a verb below cmd; "" where no verb below has the flag.
func flagOfVerbs(cmd *cobra.Command, flag string) string {
	for _, verb := range cmd.Commands() {
		if !verb.Hidden && slices.Contains(shownFlags(verb), flag) {
			return fmt.Sprintf(", which stands behind the verb, as in \"%s --%s\"", verb.CommandPath(), flag)
		}
	}
	return ""
}

// shownFlags returns the long names of the flags of cmd that help shows.
func shownFlags(cmd *cobra.Command) []string {
	var names []string
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}
