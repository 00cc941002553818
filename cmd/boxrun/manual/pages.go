package manual

import (
	"bytes"
	_ "embed" // for text of the pages beyond the commands
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

//go:embed man.md
var end string // of boxrun(1): exit codes, files, environment

// commandList returns the section of boxrun(1) that lists the commands, in Markdown.
func commandList(root *cobra.Command) string {
	list := "# COMMANDS\n\n"
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() && cmd.Name() != "help" {
			list += fmt.Sprintf("**boxrun-%s(1)**\n: %s\n\n", cmd.Name(), cmd.Short)
		}
	}
	return list
}

// Pages returns the text of each page by its file, such as "man1/boxrun-up.1": a page for each command of root that help
// shows, and boxrun.toml(5). The pages carry the version of root, and the month of $SOURCE_DATE_EPOCH, or the current month
// where the variable is not set. An error is one of cobra's renderer.
func Pages(root *cobra.Command) (map[string]string, error) {
	pages := map[string]string{}
	for _, cmd := range Shown(root) {
		text, err := page(cmd)
		if err != nil {
			return nil, fmt.Errorf("writing the page of %q: %w", cmd.CommandPath(), err)
		}
		pages["man1/"+strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"] = text
	}
	top := "man1/boxrun.1"
	pages[top] = strings.Replace(pages[top], seeAlso, sections(commandList(root)+end)+seeAlso, 1)
	pages["man5/boxrun.toml.5"] = string(md2man.Render([]byte(reference(root.Version))))
	return pages, nil
}

// seeAlso begins the last section of a page.
const seeAlso = ".SH SEE ALSO\n"

// sections renders Markdown as sections of a page, without the title of a page.
func sections(markdown string) string {
	_, text, _ := strings.Cut(string(md2man.Render([]byte("# PAGE\n"+markdown))), ".SH ")
	return ".SH " + text + "\n"
}

// Shown returns cmd and all commands below cmd that help shows.
func Shown(cmd *cobra.Command) []*cobra.Command {
	cmds := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			cmds = append(cmds, Shown(sub)...)
		}
	}
	return cmds
}

func page(cmd *cobra.Command) (string, error) {
	var b bytes.Buffer
	if err := doc.GenMan(cmd, &doc.GenManHeader{Source: "boxrun " + cmd.Root().Version, Manual: "boxrun"}, &b); err != nil {
		return "", err
	}
	return strings.TrimRight(options(b.String(), cmd.Flags()), "\n") + ", \\fBboxrun.toml(5)\\fP\n", nil
}

// option matches an option as cobra writes it: the names, the default in the place of the value, and the description
// on the next line.
var option = regexp.MustCompile(`(?m)^(?:\.PP\n)?(\\fB.*--([a-z-]+)\\fP).*\n\t(.*)$`)

// options writes the options of a page as other manual pages do: the name of the value replaces the default.
func options(page string, flags *pflag.FlagSet) string {
	return option.ReplaceAllStringFunc(page, func(text string) string {
		m := option.FindStringSubmatch(text)
		names, about := m[1], m[3]
		if f := flags.Lookup(m[2]); f != nil {
			if value, _ := pflag.UnquoteUsage(f); value != "" {
				names += `=\fI` + value + `\fP`
			}
		}
		return ".TP\n" + names + "\n" + about
	})
}

// Write writes pages, by their file below dir, and makes the directories. Pages that are there are written anew.
func Write(dir string, pages map[string]string) error {
	for name, text := range pages {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
