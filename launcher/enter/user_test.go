package enter

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"boxrun/launcher/testkit"
)

const (
	testPasswd = `root:x:0:0:root:/root:/bin/bash
toor:x:0:0:also root:/root/toor:/bin/zsh
alice:x:1000:1000:Alice,,,:/home/alice:/bin/zsh
bare:x:1001:1001::/:
`
	testGroup = `root:x:0:
adm:x:4:alice,bob
users:x:100:alice
alice:x:1000:
`
)

func TestParseUser(t *testing.T) {
	for spec, want := range map[string]string{
		"":            `{root 0 0 [] /root /bin/bash} <nil>`,
		"root":        `{root 0 0 [] /root /bin/bash} <nil>`,
		"toor":        `{toor 0 0 [] /root/toor /bin/zsh} <nil>`,
		"alice":       `{alice 1000 1000 [4 100] /home/alice /bin/zsh} <nil>`,
		"1000":        `{alice 1000 1000 [4 100] /home/alice /bin/zsh} <nil>`,
		"alice:adm":   `{alice 1000 4 [] /home/alice /bin/zsh} <nil>`,
		"1000:77":     `{alice 1000 77 [] /home/alice /bin/zsh} <nil>`,
		"bare":        `{bare 1001 1001 [] / } <nil>`,
		"4321":        `{4321 4321 0 [] / } <nil>`,
		"bob":         `{ 0 0 []  } user "bob": not in the box's /etc/passwd`,
		"alice:wheel": `{ 0 0 []  } user "alice:wheel": its group is not in the box's /etc/group`,
		"-1":          `{ 0 0 []  } user "-1": uids and gids must be in range 0-2147483647`,
	} {
		u, err := parseUser(spec, testPasswd, testGroup)
		testkit.WantText(t, fmt.Sprintf("%q: %v %v", spec, u, err), fmt.Sprintf("%q: %s", spec, want))
	}
}

func TestRootNeedsNoFiles(t *testing.T) {
	u, err := parseUser("", "", "")
	testkit.WantText(t, fmt.Sprint(u, err), "{0 0 0 [] / } <nil>")
}

func TestLoginShellFallsBack(t *testing.T) {
	shell, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for have, want := range map[string]string{"": "/bin/sh", "/no/such/shell": "/bin/sh", shell: shell} {
		testkit.WantText(t, user{Shell: have}.loginShell(), want)
	}
}

func TestEnviron(t *testing.T) {
	alice := user{Name: "alice", UID: 1000, Home: "/home/alice", Shell: "/bin/zsh"}
	e := entry{Term: "xterm", Command: Command{OfBox: []string{"A=box", "PATH=/box", "HOME=/box", "ZONE=a b"}, Env: []string{"A=1", "LANG=de_DE.UTF-8", "A=2=3", "HOMEPAGE=x"}}}
	testkit.WantText(t, strings.Join(e.environ(alice, "C.UTF-8"), "\n"), `HOME=/home/alice
USER=alice
LOGNAME=alice
SHELL=/bin/zsh
TERM=xterm
PATH=/box
ZONE=a b
LANG=de_DE.UTF-8
A=2=3
HOMEPAGE=x`)
}

func TestParseLang(t *testing.T) {
	for text, want := range map[string]string{
		"LANG=de_DE.UTF-8\n":                 "de_DE.UTF-8",
		"# LANG=no\nLC_TIME=x\nLANG=\"C\"\n": "C",
		"":                                   "",
	} {
		testkit.WantText(t, parseLang(text), want)
	}
}
