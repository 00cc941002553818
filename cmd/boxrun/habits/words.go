package habits

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"boxrun/launcher/fault"
)

// foreignVerbs has verbs of other tools, unknown to boxrun, and for each what boxrun does instead.
func foreignVerbs() map[string]string {
	const kill = `"boxrun down --timeout 0 PROFILE" kills a box at once`
	const down, shell = `"boxrun down PROFILE" takes a box away`, `"boxrun shell PROFILE" opens a shell in a box`
	const remove = down + `, and "boxrun kept rm PROFILE" what it left`
	const logs, status = `"boxrun logs PROFILE" prints the journal of a box`, `"boxrun status PROFILE" shows all of a box`
	const into = `"boxrun cp FILE PROFILE:PATH" copies into a box, and "boxrun cp PROFILE:PATH FILE" out of it`
	const initial = `"boxrun profile init NAME" writes a profile, and "boxrun up NAME" starts its box`
	return map[string]string{
		"attach":      shell,
		"check":       `"boxrun profile check PROFILE" says what is wrong in a profile`,
		"config":      `"boxrun profile show PROFILE" prints a profile with all effective values`,
		"copy-from":   into,
		"copy-to":     into,
		"create":      initial,
		"delete":      remove,
		"enter":       shell,
		"healthcheck": `"boxrun status --check PROFILE" tells by its exit code whether a box is well`,
		"images":      `"boxrun profile list" lists the profiles, each of which names the file of its image`,
		"info":        `"boxrun host show" lists what boxrun holds on the host`,
		"init":        initial,
		"journal":     logs,
		"journalctl":  logs,
		"kill":        kill,
		"login":       shell,
		"port":        `"boxrun status PROFILE" lists the ports of a box, and who can reach them`,
		"poweroff":    down,
		"volume":      `"boxrun kept" lists, exports and removes what boxes left that are down`,
		"prune":       `"boxrun kept list" lists what boxes left, "boxrun host show" lists what boxrun holds on the host, and "boxrun host reset" takes it away`,
		"pull":        `"apptainer pull" fetches an image, and "boxrun build PROFILE" makes the image of a profile`,
		"reboot":      `"boxrun restart PROFILE" starts a box anew`,
		"reload":      `"boxrun up --replace PROFILE" starts a box anew whose profile changed`,
		"remove":      remove,
		"rm":          remove,
		"run":         `"boxrun up PROFILE" starts a box, and "boxrun exec PROFILE -- COMMAND..." runs a command in it`,
		"show":        status,
		"systemctl":   `"boxrun exec PROFILE -- systemctl ..." asks the systemd in a box`,
		"terminate":   kill,
		"update":      `"boxrun enable PROFILE" has a box started at boot and when it dies, and "boxrun up PROFILE" follows a changed profile`,
		"top":         `"boxrun exec PROFILE -- top" shows the processes of a box, and "boxrun stats" what each box uses`,
		"wait":        `"boxrun up PROFILE" returns when a box is ready`,
	}
}

// Commands returns a hidden command for each foreign verb. The command takes any flags, and refuses with what to
// type.
func Commands() []*cobra.Command {
	var cmds []*cobra.Command
	for verb, instead := range foreignVerbs() {
		cmds = append(cmds, &cobra.Command{
			Use: verb, Short: instead, Hidden: true, DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return fault.Invalid("", "there is no verb %q: %s", verb, instead)
			},
		})
	}
	return cmds
}

// DoneAnyway gives cmd a hidden flag that asks for what cmd does anyway. A flag without a short form has the short form "".
func DoneAnyway(cmd *cobra.Command, name, short string) {
	cmd.Flags().BoolP(name, short, false, "done anyway")
	_ = cmd.Flags().MarkHidden(name) // cannot fail: the flag is there
}

// foreignFlags has flags of other tools by verb, and for each what to type instead.
func foreignFlags(verb, flag string) string {
	if flag == "M" || flag == "machine" {
		return `a box stands behind the verb, as in "boxrun logs PROFILE" and "boxrun exec PROFILE -- COMMAND..."`
	}
	const kept = `"boxrun kept rm PROFILE" removes what a box that is down has written to an overlay; binds are yours to remove`
	return map[string]string{
		"up --all":            `"boxrun restart --all" is for all boxes that are up, "boxrun enable PROFILE" for those to be up at each boot`,
		"up --force-recreate": `"boxrun restart PROFILE" starts a box anew`,
		"down --v":            kept,
		"down --volumes":      kept,
		"exec --uid":          `"boxrun exec -u USER PROFILE -- COMMAND..." runs as a user`,
		"shell --uid":         `"boxrun shell -u USER PROFILE" logs in as a user`,
		"exec --detach":       `"boxrun exec PROFILE -- systemd-run COMMAND..." leaves a command running in the box`,
	}[verb+" --"+flag]
}

// UserOfName says what to type for the user of a name such as "bob@web".
func UserOfName(user, box string) string {
	return fmt.Sprintf("there is neither a box nor a profile named \"%s@%s\": \"-u %[1]s %[2]s\" enters %[2]s as a user", user, box)
}

// UnitAsBox returns the error with what to type when the name of a unit stands where the name of a box does.
func UnitAsBox(unit, box string) error {
	return &fault.Problem{Kind: fault.ErrNotFound, Text: fmt.Sprintf("there is neither a box nor a profile named %q", unit),
		Hint: fmt.Sprintf("\"boxrun logs -u %s %s\" prints the lines of a unit", unit, box)}
}

// Ago returns a time as journalctl takes it: of "5m", as Compose has five minutes ago, "-5m".
func Ago(at string) string {
	if d, err := time.ParseDuration(at); err == nil && d > 0 && at[0] != '+' {
		return "-" + at
	}
	return at
}

// CommandOfShell says what to type when a command stands behind the name of the box.
const CommandOfShell = "shell takes no command: \"boxrun exec PROFILE -- COMMAND...\" runs one"

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
		return ": " + CommandOfShell
	}
	if instead := foreignFlags(cmd.Name(), word); instead != "" {
		return ": " + instead
	}
	flags := shownFlags(cmd)
	flag := near(word, flags)
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
