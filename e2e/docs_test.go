package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/page"
	"boxrun/profiles"
)

// The pages are kept true by running them. A fenced block of a page is one of
//
//	console             what is typed, behind a prompt that says where, and what is shown then
//	                        host# boxrun up web                 by root on the host
//	                        client$ curl http://192.0.2.1/      on the client
//	                        root@web:~# id -un                  in the shell of a box that the line before has opened
//	                    A line that ends in "# exit code 1" has to end so, all others with 0. A line that is shown has to
//	                    be there, however long things took; "..." in it stands for anything.
//	console not run: R  the same, but it cannot be run on a test host, for the reason R; these are counted
//	toml                a profile, whole or in part: it is valid. One that begins with "# NAME.toml" is put into
//	                    /etc/boxrun/profiles for the commands of its page
//	sh                  the plan in networking.md, for which there is a test of its own
//	text                no commands: pictures, files, messages
//
// There is no other way to show a command in a line of its own. Those in running text are looked at by a test in
// cmd/boxrun: their verbs and flags are there.

// notRun is how many blocks cannot be run on a test host. Each says why; this number is here so that one more is a decision.
const notRun = 7

// ranElsewhere names pages with a test of their own.
var ranElsewhere = map[string]string{"coldfront.md": "make test-coldfront", "cluster.md": "make test-cluster"}

// pages gives the files of the pages, the README first.
func pages(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("got pages %q, %v", files, err)
	}
	return append([]string{"../README.md"}, files...)
}

// step is a command of a page and what is shown of it.
type step struct {
	at     string
	prompt string
	line   string
	code   int      // its exit code
	typed  []string // into the shell that it opens
	shown  []string
}

var (
	prompts  = regexp.MustCompile(`^(host# |client\$ |root@[a-z0-9-]+:[^ ]*# )(.*)$`)
	commands = regexp.MustCompile(prompts.String() + `|^(boxrun|apptainer) `)
	exitNote = regexp.MustCompile(`# exit code (\d+)$`)
)

// stepsOf reads a console block.
func stepsOf(b page.Block) ([]step, error) {
	var steps []step
	for i, line := range b.Lines {
		m := prompts.FindStringSubmatch(line)
		switch {
		case m == nil && len(steps) == 0:
			return nil, fmt.Errorf("%s: begins with no prompt", b.At())
		case m == nil:
			last := &steps[len(steps)-1]
			last.shown = append(last.shown, line)
		case strings.HasPrefix(m[1], "root@"):
			if len(steps) == 0 || !strings.Contains(steps[len(steps)-1].line, " shell ") {
				return nil, fmt.Errorf("%s: nothing has opened the shell for %q", b.At(), line)
			}
			last := &steps[len(steps)-1]
			last.typed = append(last.typed, m[2])
		default:
			s := step{at: fmt.Sprintf("%s:%d", b.Page, b.Line+1+i), prompt: m[1], line: m[2]}
			if code := exitNote.FindStringSubmatch(m[2]); code != nil {
				fmt.Sscan(code[1], &s.code)
			}
			steps = append(steps, s)
		}
	}
	return steps, nil
}

// Every block is of a kind that is known, every profile is valid, and no more is left out than is known to be.
func TestPagesAreWellFormed(t *testing.T) {
	left := 0
	for _, file := range pages(t) {
		found, err := page.Blocks(file)
		if err != nil {
			t.Error(err)
		}
		for _, b := range found {
			reason, skipped := strings.CutPrefix(b.Kind, "console not run: ")
			switch {
			case skipped && len(reason) > 5:
				left++
				t.Logf("%s is not run: %s", b.At(), reason)
			case b.Kind == "console":
				if _, err := stepsOf(b); err != nil {
					t.Error(err)
				}
			case b.Kind == "toml":
				if err := valid(b); err != nil {
					t.Errorf("%s: %v", b.At(), err)
				}
			case b.Kind == "text":
				if i := slices.IndexFunc(b.Lines, commands.MatchString); i >= 0 {
					t.Errorf("%s: %q is a command", b.At(), b.Lines[i])
				}
			case b.Kind == "sh" && b.Page == "networking.md":
			case b.Kind == "yaml" && b.Page == "cluster.md", b.Kind == "text keepalived.conf", b.Kind == "text haproxy.cfg": // taken by e2e/cluster
			default:
				t.Errorf("%s: a block of kind %q", b.At(), b.Kind)
			}
		}
	}
	if left != notRun {
		t.Errorf("%d blocks are not run, want %d", left, notRun)
	}
}

var links = regexp.MustCompile(`\]\(([^):#]+)(?:#[^)]*)?\)`)

// Links between pages lead to files that are there.
func TestPagesLinkToFiles(t *testing.T) {
	for _, file := range pages(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		for _, m := range links.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", filepath.Base(file), m[1], err)
			}
		}
	}
}

// valid says what is wrong with a profile; one of which only a part is shown needs no image.
func valid(b page.Block) error {
	text := strings.Join(b.Lines, "\n")
	if !strings.Contains(text, "image ") && !strings.Contains(text, "image=") {
		text = "image = \"web.sif\"\n" + text
	}
	instance := ""
	if strings.Contains(text, "%i") {
		instance = "1"
	}
	_, err := profiles.Parse("web.toml", []byte(text), instance)
	return err
}

// What the pages say is typed on one host, page by page, and does what they say it does.
func TestPages(t *testing.T) {
	h := newHost(t)
	for _, file := range pages(t) {
		if ranElsewhere[filepath.Base(file)] != "" {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".md"), func(t *testing.T) {
			found, err := page.Blocks(file)
			if err != nil {
				t.Fatal(err)
			}
			h.in(t).followPage(found)
		})
	}
	t.Run("examples", func(t *testing.T) { h.in(t).followExamples() })
}

// followPage does what a page says, and leaves the host as the next page expects it.
func (h host) followPage(found []page.Block) {
	h.t.Helper()
	defer h.sh("boxrun host reset --force; rm -rf /etc/boxrun/profiles/* /root/*")
	for _, b := range found {
		switch b.Kind {
		case "toml":
			h.keepProfile(b)
		case "console":
			steps, err := stepsOf(b)
			if err != nil {
				h.t.Fatal(err)
			}
			for _, s := range steps {
				h.follow(s)
			}
		}
	}
}

// keepProfile writes a profile that has a name, and has an image for it.
func (h host) keepProfile(b page.Block) {
	h.t.Helper()
	name, ok := strings.CutPrefix(b.Lines[0], "# ")
	name, isProfile := strings.CutSuffix(name, ".toml")
	if !ok || !isProfile {
		return
	}
	text := strings.Join(b.Lines, "\n") + "\n"
	h.profile(name, text)
	if m := regexp.MustCompile(`(?m)^image *= "([^/:"]+)"`).FindStringSubmatch(text); m != nil {
		h.must("ln", "-sfn", "/srv/web", "/etc/boxrun/profiles/"+m[1])
	}
}

// follow types one line, as late after the one before as a person would, and looks at what comes of it.
func (h host) follow(s step) {
	h.t.Helper()
	h.settled()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd := h.Command(ctx, "bash", "-c", s.line)
	if s.prompt == "client$ " {
		cmd = h.ClientCommand(ctx, "bash", "-c", s.line)
	}
	cmd.Stdin = strings.NewReader(strings.Join(append(s.typed, ""), "\n"))
	began := time.Now()
	out, err := cmd.CombinedOutput()
	h.t.Logf("%s: %.1f s: %s%s", s.at, time.Since(began).Seconds(), s.prompt, s.line)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("%s: %s: %v", s.at, s.line, err)
	}
	if got := cmd.ProcessState.ExitCode(); got != s.code {
		h.t.Fatalf("%s: %s: exit code %d, want %d:\n%s", s.at, s.line, got, s.code, out)
	}
	for _, line := range s.shown {
		if !shows(string(out), line) {
			h.t.Errorf("%s: %s shows no line %q but:\n%s", s.at, s.line, line, out)
		}
	}
}

// shows says whether a line of text is want: times taken and white space do not count, and "..." is anything.
func shows(text, want string) bool {
	like := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(loosely(want)), `\.\.\.`, ".*") + "$")
	for line := range strings.Lines(text) {
		if like.MatchString(loosely(line)) {
			return true
		}
	}
	return want == ""
}

var (
	durations = regexp.MustCompile(`\b([0-9]+(\.[0-9]+)?(ms|h|m|s))+\b`) // 0.5s, 1m30s
	spaces    = regexp.MustCompile(`\s+`)
)

// loosely makes texts equal that differ in times taken and in white space.
func loosely(text string) string {
	return strings.TrimSpace(spaces.ReplaceAllString(durations.ReplaceAllString(text, "Ns"), " "))
}

// exampleOrder has the verbs in an order in which their examples can be typed one after the other.
var exampleOrder = []string{
	"", "build", "up", "diff", "ps", "status", "stats", "exec", "shell", "cp", "logs", "restart", "profile list", "profile show", "profile check",
	"profile init", "host setup", "host show", "doctor", "trace", "enable", "repair", "disable", "down", "kept list", "kept export",
	"kept rm", "host reset", "version",
}

// followExamples types the examples that the help texts and the manual pages show.
func (h host) followExamples() {
	h.t.Helper()
	h.profile("web", "image = \"web\"\n[build]\ndefinition = \"web.def\"\n[network]\nports = [\"80\"]\n[storage]\nroot = \"overlay\"\n")
	h.profile("db", "image = \"/srv/web\"\n")
	h.sh("printf 'Bootstrap: localimage\nFrom: /srv/web\n' > /etc/boxrun/profiles/web.def; ln -s web /srv/shop; boxrun up db")
	for _, verb := range exampleOrder {
		help := h.must(append(append([]string{"boxrun"}, strings.Fields(verb)...), "--help")...)
		_, examples, found := strings.Cut(help, "Examples:\n")
		if !found {
			h.t.Errorf("boxrun %s --help has no examples", verb)
		}
		examples, _, _ = strings.Cut(examples, "\n\n")
		for line := range strings.Lines(examples) {
			s := step{at: "boxrun " + verb + " --help", prompt: "host# ", line: strings.TrimSpace(line)}
			if strings.Contains(line, " -f ") { // it would go on for ever
				s.line, s.code = "timeout -s INT 1 "+s.line, 124
			}
			h.follow(s)
		}
	}
	h.allVerbsAreExamples()
}

// allVerbsAreExamples finds verbs whose examples nobody has typed.
func (h host) allVerbsAreExamples() {
	h.t.Helper()
	dir := h.t.TempDir()
	if out, err := exec.Command("go", "run", "-tags", "man", "boxrun/cmd/boxrun", "man", dir).CombinedOutput(); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "man1", "*"))
	if err != nil || len(pages) == 0 {
		h.t.Fatalf("there are no manual pages: %v", err)
	}
	for _, page := range pages {
		if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "\n.SH EXAMPLE") {
			continue
		}
		verb := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(filepath.Base(page), "boxrun"), "-"), ".1")
		if !strings.Contains(verb, "completion") && !slices.Contains(exampleOrder, strings.ReplaceAll(verb, "-", " ")) {
			h.t.Errorf("the examples of %q are not run: give it a place in exampleOrder", verb)
		}
	}
}
