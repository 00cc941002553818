package e2e

import (
	"context"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

func TestExecIsTransparent(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	for _, test := range []struct {
		name string
		line string
		want testhost.Result
	}{
		{"exit code", "boxrun exec web -- sh -c 'exit 7'", testhost.Result{Code: 7}},
		{"death by signal", "boxrun exec web -- sh -c 'kill -TERM $$'", testhost.Result{Code: 143}},
		{"piped stdin", "echo hi | boxrun exec web -- cat", testhost.Result{Stdout: "hi\n"}},
		{"a megabyte through", "head -c 1000000 /dev/zero | boxrun exec web -- cat | wc -c", testhost.Result{Stdout: "1000000\n"}},
		{"output apart", "boxrun exec web -- sh -c 'echo out; echo err >&2'", testhost.Result{Stdout: "out\n", Stderr: "err\n"}},
		{"no terminal", "boxrun exec web -- tty", testhost.Result{Stdout: "not a tty\n", Code: 1}},
		{"user", "boxrun exec -u bob web -- id -un", testhost.Result{Stdout: "bob\n"}},
		{"directory", "boxrun exec -w /usr/lib web -- pwd", testhost.Result{Stdout: "/usr/lib\n"}},
		{"environment", "boxrun exec -e A=b=c web -- printenv A", testhost.Result{Stdout: "b=c\n"}},
		{"flags of the command", "boxrun exec web -- echo -u -t", testhost.Result{Stdout: "-u -t\n"}},
		{"hostname", "boxrun exec web -- hostname", testhost.Result{Stdout: "web\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := h.in(t).run("bash", "-c", test.line); got != test.want {
				t.Errorf("%s: got %v, want %v", test.line, got, test.want)
			}
		})
	}
	h.fails(127, []string{"boxrun: ", "nosuch"}, "boxrun", "exec", "web", "--", "nosuch")
	h.fails(126, []string{"boxrun: ", "/etc/passwd"}, "boxrun", "exec", "web", "--", "/etc/passwd")
	h.fails(125, []string{"boxrun: ", "nobox"}, "boxrun", "exec", "nobox", "--", "true")
}

// shell starts a command on a terminal of the host.
func (h host) terminal(argv ...string) *testhost.Terminal {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	h.t.Cleanup(cancel)
	term, err := h.Terminal(ctx, 33, 111, argv...)
	if err != nil {
		h.t.Fatal(err)
	}
	return term
}

// dialogue types each line and waits for what has to follow.
func dialogue(t *testing.T, term *testhost.Terminal, lines [][2]string) {
	t.Helper()
	for _, line := range lines {
		if err := term.Type(line[0]); err != nil {
			t.Fatal(err)
		}
		if err := term.Expect(line[1], 10*time.Second); err != nil {
			t.Fatalf("having typed %q: %v", line[0], err)
		}
	}
}

// leave types exit and wants exit code 0.
func leave(t *testing.T, term *testhost.Terminal) {
	t.Helper()
	if err := term.Type("exit\n"); err != nil {
		t.Fatal(err)
	}
	r, err := term.Wait(10 * time.Second)
	if err != nil || r.Code != 0 {
		t.Errorf("leaving: %v, %v, want exit code 0", r, err)
	}
}

// The text a line prints must not be in the line itself, which the terminal echoes: hence the sums.
func TestShellHasARealTerminal(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	term := h.terminal("boxrun", "shell", "web")
	dialogue(t, term, [][2]string{
		{"", "web"}, // the prompt
		{"tty\n", "/dev/pts/"},
		{"stty size\n", "33 111"},
		{"echo $((6*7))-$(id -un)\n", "42-root"},
		{"shopt -q login_shell && echo login=$((1+1))\n", "login=2"},
		{"sh -c 'echo go=$((3+3)); exec sleep 100'\n", "go=6"}, // in the foreground by then, and bash reads no keys
		{"\x03echo int=$((2+2))\n", "int=4"},
	})
	if err := term.Resize(44, 122); err != nil {
		t.Fatal(err)
	}
	dialogue(t, term, [][2]string{{"sleep .2; stty size\n", "44 122"}})
	leave(t, term)
}

func TestShellOfAUser(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	term := h.terminal("boxrun", "shell", "-u", "bob", "web")
	dialogue(t, term, [][2]string{{"", "$"}, {"echo $((1+1))-$(id -un)-$PWD\n", "2-bob-/home/bob"}})
	leave(t, term)
}

func TestSuAndTmuxWorkInside(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	term := h.terminal("boxrun", "shell", "web")
	dialogue(t, term, [][2]string{
		{"", "#"},
		{"su - bob\n", "$"},
		{"echo $((1+1))-$(id -un)\n", "2-bob"},
		{"exit\n", "#"},
		{"tmux new-session 'echo in-$((3+3)); sleep 1' && echo out-$((4+4))\n", "in-6"},
		{"", "out-8"},
	})
	leave(t, term)
}

// Whatever ends a shell, the terminal it was typed on is as before.
func TestTheTerminalIsRestored(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	term := h.terminal("bash", "--norc")
	same := [2]string{"stty -g | cmp - /tmp/before && echo same=$((1+1))\n", "same=2"}
	prompt := [2]string{"", "bash-"}
	dialogue(t, term, [][2]string{prompt, {"stty -g > /tmp/before\n", "before"}, prompt})
	dialogue(t, term, [][2]string{{"boxrun shell web\n", "web:"}, {"exit\n", "exit"}, prompt, same, prompt})
	for _, line := range []string{"boxrun exec web -- sh -c 'exit 100'", "boxrun exec web -- sh -c 'kill -9 $$'", "boxrun exec web -- nosuch"} {
		dialogue(t, term, [][2]string{{line + "; echo ended=$?\n", "ended=1"}, prompt, same, prompt})
	}
	dialogue(t, term, [][2]string{
		{"{ sleep 1; pkill -TERM -x boxrun; } &\n", "&"}, {"boxrun shell web\n", "web:"}, prompt, same,
	})
	leave(t, term)
}

// When the shell's box goes down under it, the shell ends, and with it boxrun.
func TestShellEndsWithItsBox(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	term := h.terminal("boxrun", "shell", "web")
	dialogue(t, term, [][2]string{{"", "#"}})
	h.must("boxrun", "down", "web")
	if r, err := term.Wait(10 * time.Second); err != nil || r.Code == 0 {
		t.Errorf("got %v, %v, want a shell that ended, not by itself", r, err)
	}
}

func TestSudoIsAskedForOnATerminal(t *testing.T) {
	h := newHost(t)
	term := h.terminal("runuser", "-l", "alice", "-c", "boxrun up web; echo code=$?")
	dialogue(t, term, [][2]string{{"", "sudo"}, {"", "code=0"}})
	if _, err := term.Wait(10 * time.Second); err != nil {
		t.Error(err)
	}
	h.page()
	h.sh(`runuser -l alice -c "mkdir -p .config/boxrun/profiles; cd .config/boxrun/profiles
		echo 'image = \"builtin:hello\"' > mydb.toml; (cat mydb.toml; echo 'depends_on = [\"mydb\"]') > mysite.toml"`)
	term = h.terminal("runuser", "-l", "alice", "-c", "boxrun up mysite && boxrun down mysite && boxrun down mysite; echo code=$?")
	dialogue(t, term, [][2]string{{"", "mydb: started"}, {"", "mysite: started"}, {"", "mysite: is down"}, {"", "mysite: is not up"}, {"", "code=0"}})
	if _, err := term.Wait(10 * time.Second); err != nil {
		t.Error(err)
	}
	h.fails(1, []string{"boxrun: ", "root", "boxrun: hint: ", "sudo"}, "runuser", "-u", "alice", "--", "boxrun", "down", "web")
}
