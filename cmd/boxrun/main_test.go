package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if os.Getenv(waitVariable) != "" {
		waitForInterrupt()
		return
	}
	testscript.Main(m, map[string]func(){
		"boxrun": func() {
			os.Exit(run(os.Args[1:], newTerminal(os.Stdin, os.Stdout, os.Stderr)))
		},
	})
}

// TestScripts runs testdata/*.txtar: what a person types, and what it says. Every script has a state directory of its
// own, $STATE, and runs boxrun as somebody who is not root, whoever runs the tests.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("STATE", filepath.Join(env.WorkDir, "state"))
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			return openTo(env.WorkDir)
		},
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			if os.Geteuid() != 0 && os.Getenv("CI") != "" {
				return false, errors.New("CI runs these tests as root")
			}
			return os.Geteuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code},
	})
}

// openTo lets anybody work in dir and reach it.
func openTo(dir string) error {
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	return nil
}

// code N boxrun ARGS... runs boxrun as somebody who is not root and wants exit code N. The script looks at what it
// printed with stdout and stderr, as after exec.
func code(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 || args[1] != "boxrun" {
		ts.Fatalf("usage: code N boxrun ARGS...")
	}
	err := ts.Exec("sh", append([]string{"-c", asAnybody + `; echo $? > $WORK/code`, "sh"}, args[1:]...)...)
	ts.Check(err)
	if got := strings.TrimSpace(ts.ReadFile("code")); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// asAnybody runs a command as nobody where we are root.
const asAnybody = `if [ "$(id -u)" = 0 ]; then umask 0; setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; else "$@"; fi`
