package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// pressed are words at which a person presses Tab, and what the shell then shows: the line as completed, where there is
// one thing to offer, or else words to choose from, and none of others.
var pressed = []struct {
	typed, line string
	offered     []string
	others      []string
}{
	{"boxrun versi", "boxrun version", nil, nil},
	{"boxrun sta", "", []string{"stats", "status"}, []string{"start", "restart"}},
	{"boxrun down w", "boxrun down web", nil, nil},
	{"boxrun down ", "", []string{"db", "web"}, []string{"hello", "coldfront"}},
	{"boxrun up ", "", []string{"db", "web", "hello", "coldfront"}, nil},
	{"boxrun disable ", "boxrun disable hello", nil, nil},
	{"boxrun enable ", "", []string{"coldfront", "web"}, []string{"hello"}},
	{"boxrun build ", "boxrun build coldfront", nil, nil},
	{"boxrun kept rm ", "boxrun kept rm gone/own", nil, nil},
	{"boxrun logs web -u ngi", "boxrun logs web -u nginx.service", nil, nil},
	{"boxrun logs -p cri", "boxrun logs -p crit", nil, nil},
	{"boxrun shell web -u www", "boxrun shell web -u www-data", nil, nil},
	{"boxrun cp web:/etc/ngin", "boxrun cp web:/etc/nginx/", nil, nil},
	{"boxrun cp web:/etc/hostn", "boxrun cp web:/etc/hostname", nil, nil},
	{"boxrun cp web:/etc/host", "", []string{"hostname", "hosts"}, []string{"passwd"}},
	{"boxrun cp /srv/mine/on", "boxrun cp /srv/mine/one.conf", nil, nil},
	{"boxrun cp /srv/mine/one.conf we", "boxrun cp /srv/mine/one.conf web:", nil, nil},
	{"boxrun cp web:/etc/hostname /srv/mi", "boxrun cp web:/etc/hostname /srv/mine/", nil, nil},
}

// shells are started with the completion that "boxrun completion" prints, where each looks for completions.
var shells = map[string]string{
	"bash": "bash --rcfile /usr/share/bash-completion/bash_completion -i",
	"zsh":  "env -i PATH=$PATH TERM=$TERM HOME=/root zsh -f -i",
	"fish": "fish --private",
}

// A person presses Tab in bash, zsh and fish, and is offered what the verb takes.
func TestShellsComplete(t *testing.T) {
	if !soak() {
		t.Skip("a root of its own, in a soak")
	}
	h := bootHost(t, testhost.NewEquipped)
	h.sh(`boxrun completion bash > /usr/share/bash-completion/completions/boxrun
install -d /usr/local/share/zsh/site-functions; boxrun completion zsh > /usr/local/share/zsh/site-functions/_boxrun
boxrun completion fish > /etc/fish/completions/boxrun.fish
install -D /dev/null /srv/mine/one.conf; mkdir -p /var/lib/boxrun/gone/own`)
	h.profile("db", "image = \"builtin:hello\"\n")
	h.must("boxrun", "up", "web", "db")
	h.must("boxrun", "enable", "hello")
	for name, start := range shells {
		h.must("tmux", "-L", "tab", "-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "40", "-s", name, start)
	}
	h.sh("tmux -L tab send-keys -t zsh \"PS1='> '; LISTMAX=1000; autoload -U compinit; compinit -u\" Enter")
	h.sh("tmux -L tab send-keys -t fish \"function fish_prompt; echo '> '; end; function fish_right_prompt; end; set fish_autosuggestion_enabled 0\" Enter")
	defer h.run("tmux", "-L", "tab", "kill-server")
	for name := range shells {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			for _, c := range pressed {
				h.presses(name, c.typed, c.line, c.offered, c.others)
			}
		})
	}
}

// presses types words in a shell of the test, presses Tab, and wants what is shown then.
func (h host) presses(shell, typed, line string, offered, others []string) {
	h.t.Helper()
	h.sh(fmt.Sprintf("tmux -L tab send-keys -t %s C-u C-l; sleep 0.1; tmux -L tab send-keys -t %[1]s -l '%s'; tmux -L tab send-keys -t %[1]s Tab", shell, typed))
	var screen string
	wrong := eventually(20*time.Second, func() string {
		screen = h.must("tmux", "-L", "tab", "capture-pane", "-p", "-t", shell)
		switch {
		case line != "" && !regexp.MustCompile(`(?m)^(>|root.*#) `+regexp.QuoteMeta(line)+` ?$`).MatchString(screen):
			return "want the line " + line
		case len(offered) > 0 && !onScreen(screen, offered):
			h.must("tmux", "-L", "tab", "send-keys", "-t", shell, "Tab")
			return fmt.Sprintf("want all of %q", offered)
		}
		return ""
	})
	if wrong == "" && slices.ContainsFunc(others, func(word string) bool { return onScreen(screen, []string{word}) }) {
		wrong = fmt.Sprintf("want none of %q", others)
	}
	if wrong != "" {
		h.t.Errorf("%s: %q and Tab: %s, got\n%s", shell, typed, wrong, strings.TrimSpace(screen))
	}
}

// onScreen reports whether all words begin a word on the screen.
func onScreen(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool {
		return !regexp.MustCompile(`(?m)(^|[\s/:])` + regexp.QuoteMeta(word) + `($|\s)`).MatchString(text)
	})
}
