package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/cmd/boxrun/manual"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func rootCommand() *cobra.Command {
	root := newRoot(newTerminal(os.Stdin, os.Stdout, os.Stderr), "")
	root.InitDefaultHelpCmd()
	return root
}

// described gives the commands whose texts are ours: cobra brings those of completion.
func described() []*cobra.Command {
	var cmds []*cobra.Command
	for _, cmd := range manual.Shown(rootCommand()) {
		if !strings.Contains(cmd.CommandPath(), " completion") && cmd.Name() != "help" {
			cmds = append(cmds, cmd)
		}
	}
	return cmds
}

// Every verb has a manual page that says what it does and shows an example, and has all its flags.
func TestManualPages(t *testing.T) {
	pages, err := manual.Pages(rootCommand())
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range described() {
		path := cmd.CommandPath()
		page := pages["man1/"+strings.ReplaceAll(path, " ", "-")+".1"]
		want := []string{".SH NAME", ".SH DESCRIPTION", "boxrun.toml(5)"}
		if !cmd.HasSubCommands() {
			want = append(want, ".SH EXAMPLE")
			if cmd.Long == "" {
				t.Errorf("%s has no long text", path)
			}
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				want = append(want, `\fB--`+f.Name+`\fP`)
			}
			if f.Usage == "" {
				t.Errorf("%s --%s says nothing of what it does", path, f.Name)
			}
		})
		for _, part := range want {
			if !strings.Contains(page, part) {
				t.Errorf("the page of %s has no %q:\n%s", path, part, page)
			}
		}
	}
	for path, page := range pages {
		if strings.Contains(strings.ToLower(path+page), "powershell") {
			t.Errorf("%s tells of PowerShell", path)
		}
	}
	if page := pages["man1/boxrun.1"]; !strings.Contains(page, ".SH COMMANDS\n\\fBboxrun-build(1)\\fP\n.br\n") &&
		!strings.Contains(page, "\\fBboxrun-up(1)\\fP\nBring boxes up") {
		t.Errorf("boxrun(1) does not list the commands:\n%s", page)
	}
	if page := pages["man5/boxrun.toml.5"]; !strings.Contains(page, ".SS network.ports\n") {
		t.Errorf("boxrun.toml(5) does not describe network.ports:\n%s", page)
	}
}

// boxrun man, as "make install" runs it, writes them where man looks.
func TestManualPagesAreWritten(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "-tags", "man", ".", "man", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, page := range []string{"man1/boxrun.1", "man1/boxrun-host-setup.1", "man5/boxrun.toml.5"} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil || !strings.Contains(string(text), ".TH ") {
			t.Errorf("%s: got %q, %v", page, text, err)
		}
	}
}

// Every help text fits a terminal of 80 columns.
func TestHelpFitsTheTerminal(t *testing.T) {
	for _, cmd := range described() {
		var help bytes.Buffer
		cmd.SetOut(&help)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(help.String()) {
			if line = strings.TrimSuffix(line, "\n"); len(line) > 80 {
				t.Errorf("%s --help: %d columns: %q", cmd.CommandPath(), len(line), line)
			}
		}
	}
}

// profilePage is docs/profile.md: all that a profile can say, as a page.
func profilePage() string {
	return "# The profile of a box\n\n" +
		"<!-- made from profiles/template.toml and cmd/boxrun/manual/profile.md: go test ./cmd/boxrun -update -->\n\n" +
		manual.AboutProfiles + "\n" + manual.Keys("##")
}

// docs/profile.md is what the types, the template and profile.md of the manual say.
func TestProfilePageIsCurrent(t *testing.T) {
	const file = "../../docs/profile.md"
	if *update {
		if err := os.WriteFile(file, []byte(profilePage()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != profilePage() {
		t.Error("docs/profile.md is not current: run this test with -update")
	}
}
