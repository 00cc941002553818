package profiles

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each case changes one thing of ROOT/a/b/web.toml, where ROOT is a private directory of the user of the test.
func TestTrusted(t *testing.T) {
	me := os.Getuid()
	for _, test := range []struct {
		what    string
		change  func(t *testing.T, root string)
		file    string // "" for a/b/web.toml
		invoker int
		want    string // of the error, "" for none
		hint    string
	}{
		{what: "private", change: nothing, invoker: me},
		{what: "readable for all", change: chmod("a/b/web.toml", 0o644), invoker: me},
		{
			what: "writable for its group", change: chmod("a/b/web.toml", 0o664), invoker: me,
			want: "ROOT/a/b/web.toml is writable for its group", hint: "look through it first, then chmod go-w ROOT/a/b/web.toml",
		},
		{
			what: "writable for everybody", change: chmod("a/b/web.toml", 0o602), invoker: me,
			want: "ROOT/a/b/web.toml is writable for everybody", hint: "look through it first, then chmod go-w ROOT/a/b/web.toml",
		},
		{
			what: "in a directory writable for its group", change: chmod("a/b", 0o775), invoker: me,
			want: "ROOT/a/b is writable for its group", hint: "look through it first, then chmod go-w ROOT/a/b",
		},
		{
			what: "below a directory writable for everybody", change: chmod("a", 0o777), invoker: me,
			want: "ROOT/a is writable for everybody", hint: "look through it first, then chmod go-w ROOT/a",
		},
		{what: "below a sticky one", change: chmod("a", 0o777|os.ModeSticky), invoker: me},
		{
			what: "sticky itself", change: chmod("a/b/web.toml", 0o666|os.ModeSticky), invoker: me,
			want: "ROOT/a/b/web.toml is writable for everybody", hint: "look through it first, then chmod go-w ROOT/a/b/web.toml",
		},
		{what: "a link", change: link("a/b/web.toml", "web.toml"), file: "web.toml", invoker: me},
		{what: "a relative link", change: link("../a/b/web.toml", "c/web.toml"), file: "c/web.toml", invoker: me},
		{what: "behind a linked directory", change: link("a", "d"), file: "d/b/web.toml", invoker: me},
		{
			what: "open and behind a linked directory", invoker: me, file: "d/b/web.toml",
			change: all(link("a", "d"), chmod("a/b/web.toml", 0o664)),
			want:   "ROOT/a/b/web.toml is writable for its group", hint: "look through it first, then chmod go-w ROOT/a/b/web.toml",
		},
		{
			what: "open and behind an absolute link", invoker: me, file: "web.toml",
			change: all(link("ROOT/c/d", "web.toml"), link("ROOT/a/b/web.toml", "c/d"), chmod("a/b/web.toml", 0o606)),
			want:   "ROOT/a/b/web.toml is writable for everybody", hint: "look through it first, then chmod go-w ROOT/a/b/web.toml",
		},
		{
			what: "a link into an open directory", invoker: me, file: "web.toml",
			change: all(link("a/b/web.toml", "web.toml"), chmod("a", 0o777)),
			want:   "ROOT/a is writable for everybody", hint: "look through it first, then chmod go-w ROOT/a",
		},
		{
			what: "a link in an open directory", invoker: me, file: "c/web.toml",
			change: all(link("../a/b/web.toml", "c/web.toml"), chmod("c", 0o777)),
			want:   "ROOT/c is writable for everybody", hint: "look through it first, then chmod go-w ROOT/c",
		},
		{
			what: "behind a link through an open directory", invoker: me, file: "d/b/web.toml",
			change: all(link("c/x", "d"), link("../a", "c/x"), chmod("c", 0o777)),
			want:   "ROOT/c is writable for everybody", hint: "look through it first, then chmod go-w ROOT/c",
		},
		{
			what: "up out of an open directory", invoker: me, file: "c/../a/b/web.toml",
			change: chmod("c", 0o777), // a path is cleaned before it is read: c is not on the way
		},
	} {
		t.Run(test.what, func(t *testing.T) {
			root := tree(t)
			test.change(t, root)
			info, err := os.Stat(root)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(test.want, itsGroup) && ownGroupOnly(root, info) {
				t.Skip("the group of this user has nobody else in it")
			}
			if test.file == "" {
				test.file = "a/b/web.toml"
			}
			checkTrust(t, root, test.file, test.invoker, test.want, test.hint)
		})
	}
}

// Files of others are refused, whatever their mode.
func TestTrustedOwner(t *testing.T) {
	const other = 12345
	for _, test := range []struct {
		what, given, file string
		invoker           int
		want, hint        string
	}{
		{"a file of another", "a/b/web.toml", "a/b/web.toml", 0, "ROOT/a/b/web.toml belongs to user 12345", ofRoot},
		{"a directory of another", "a", "a/b/web.toml", -1, "ROOT/a belongs to user 12345", ofRoot},
		{"a link of another", "web.toml", "web.toml", 0, "ROOT/web.toml belongs to user 12345", ofRoot},
		{"a file of the invoker", "a/b/web.toml", "a/b/web.toml", other, "", ""},
		{"a directory of the invoker", "a", "a/b/web.toml", other, "", ""},
		{"a file of somebody else than the invoker", "a/b/web.toml", "a/b/web.toml", 1000, "ROOT/a/b/web.toml belongs to user 12345", ofRoot},
	} {
		t.Run(test.what, func(t *testing.T) {
			if os.Getuid() != 0 {
				if os.Getenv("CI") != "" {
					t.Fatal("only root can give files away")
				}
				t.Skip("only root can give files away")
			}
			root := tree(t)
			link("a/b/web.toml", "web.toml")(t, root)
			if err := os.Lchown(filepath.Join(root, test.given), other, other); err != nil {
				t.Fatal(err)
			}
			checkTrust(t, root, test.file, test.invoker, test.want, test.hint)
		})
	}
}

func TestTrustedOdd(t *testing.T) {
	root := tree(t)
	link("loop", "loop")(t, root)
	for _, test := range []struct{ file, want string }{
		{"builtin:hello", ""},
		{root + "/absent.toml", "checking who can write ROOT/absent.toml: lstat ROOT/absent.toml: no such file or directory"},
		{root + "/loop", "checking who can write ROOT/loop: too many levels of symbolic links"},
	} {
		got := ""
		if err := Trusted(test.file, os.Getuid()); err != nil {
			got = strings.ReplaceAll(err.Error(), root, "ROOT")
		}
		if got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// A group of one's own, as useradd makes groups and a umask of 0002 relies on.
func TestAlone(t *testing.T) {
	const users = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:100::/home/bob:/bin/sh\neve:x:1002:1003::/:/bin/sh\n"
	const groups = "root:x:0:\nusers:x:100:\nalice:x:1000:alice\nstaff:x:1003:\n"
	for what, c := range map[string]struct {
		users, groups string
		uid, gid      uint32
		want          bool
	}{
		"one's own":                 {users, groups, 1000, 1000, true},
		"of many":                   {users, groups, 1001, 100, false},
		"of another name":           {users, groups, 1002, 1003, false},
		"somebody else's":           {users, groups, 1001, 1000, false},
		"with a member":             {users, strings.ReplaceAll(groups, "1000:alice", "1000:alice,bob"), 1000, 1000, false},
		"first group of two":        {users + "mallory:x:1009:1000::/:\n", groups, 1000, 1000, false},
		"in no file, as of LDAP":    {users, groups, 5000, 5000, false},
		"without an entry of group": {users, "root:x:0:\n", 1000, 1000, false},
	} {
		if got := alone(c.users, c.groups, c.uid, c.gid); got != c.want {
			t.Errorf("%s: got %v", what, got)
		}
	}
}

func checkTrust(t *testing.T, root, file string, invoker int, want, hint string) {
	t.Helper()
	file = root + "/" + file
	err := Trusted(file, invoker)
	if want == "" {
		if err != nil {
			t.Errorf("got %v, want no error", err)
		}
		return
	}
	var trust *TrustError
	if !errors.As(err, &trust) {
		t.Fatalf("got %v, want a TrustError", err)
	}
	want = "not using " + file + " as root: " + strings.ReplaceAll(want, "ROOT", root)
	if got := trust.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if want := strings.ReplaceAll(hint, "ROOT", root); trust.Hint != want {
		t.Errorf("hint: got %q, want %q", trust.Hint, want)
	}
}

// tree makes a/b/web.toml and c, writable for nobody else, and gives their root without links.
func tree(t *testing.T) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err == nil {
		err = errors.Join(os.Chmod(root, 0o700), os.MkdirAll(root+"/a/b", 0o755), os.Mkdir(root+"/c", 0o755),
			os.Chmod(root+"/a", 0o755), os.Chmod(root+"/a/b", 0o755), os.Chmod(root+"/c", 0o755),
			os.WriteFile(root+"/a/b/web.toml", nil, 0o600), os.Chmod(root+"/a/b/web.toml", 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func nothing(*testing.T, string) {}

func chmod(path string, mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		t.Helper()
		if err := os.Chmod(filepath.Join(root, path), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func link(target, path string) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		t.Helper()
		if err := os.Symlink(strings.ReplaceAll(target, "ROOT", root), filepath.Join(root, path)); err != nil {
			t.Fatal(err)
		}
	}
}

func all(changes ...func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		for _, change := range changes {
			change(t, root)
		}
	}
}

// A file of somebody else in the way of root's own is told together with root's own.
func TestHidden(t *testing.T) {
	mine, theirs := t.TempDir(), t.TempDir()
	for _, dir := range []string{mine, theirs} {
		if err := os.WriteFile(dir+"/web.toml", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := Search{Dirs: []string{theirs, mine}}
	for file, want := range map[string]string{
		theirs + "/web.toml": mine + "/web.toml", mine + "/web.toml": "", "/elsewhere/web.toml": "", theirs + "/hello.toml": "builtin:hello",
	} {
		if got := s.Hidden(file); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
	if got, want := shellWord("/tmp/a b;'c"), `'/tmp/a b;'\''c'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
