package profiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shelf writes profiles into a fresh directory: lines of NAME.toml and text.
func shelf(t *testing.T, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// On the search path the first hit wins.
func TestLoad(t *testing.T) {
	const image = "image = '/x'\n"
	t.Chdir(shelf(t, map[string]string{"web.toml": image + "description = 'here'", "bad.toml": "image = 1"}))
	first := shelf(t, map[string]string{
		"web.toml": image + "description = 'first'", "db.toml": image + "description = 'first'", "t.toml": image + "description = 'is %i'",
	})
	second := shelf(t, map[string]string{"db.toml": image + "description = 'second'", "x@y.toml": image, "hello.toml": image + "description = 'mine'"})
	s := Search{Dirs: []string{here, filepath.Join(first, "absent"), first, second}}

	for _, test := range []struct{ arg, name, description, err string }{
		{"web", "web", "here", ""},
		{"db", "db", "first", ""},
		{"./web.toml", "web", "here", ""},
		{"web.toml", "web", "here", ""},
		{second + "/db.toml", "db", "second", ""},
		{"t@a", "t-a", "is a", ""},
		{first + "/t.toml@a", "t-a", "is a", ""},
		{"hello", "hello", "mine", ""},
		{"builtin:hello", "hello", "a page that shows the box, its address and who asked", ""},
		{"builtin:hello@2", "hello-2", "a page that shows the box, its address and who asked", ""},
		{"dbx", "", "", `no such profile: "dbx", did you mean "db"?`},
		{"nothing", "", "", `no such profile: "nothing"`},
		{"", "", "", `no such profile: ""`},
		{"nothing@a", "", "", `no such profile: "nothing"`},
		{"./nothing.toml", "", "", `no such profile: "./nothing.toml"`},
		{"builtin:nothing", "", "", `no such profile: "builtin:nothing"`},
		{"builtin:../builtin/hello", "", "", `no such profile: "builtin:../builtin/hello", did you mean "hello"?`},
		{"web@", "", "", `web@: the instance must be a-z and 0-9, with - not at an end, got ""`},
		{"web@A", "", "", `web@A: the instance must be a-z and 0-9, with - not at an end, got "A"`},
		{"t@a-quite-long-name", "", "", first + `/t.toml: the box's name, which is the file's, must be at most 18 characters, instance included, got "t-a-quite-long-name"`},
		{second + "/x@y.toml", "", "", second + `/x@y.toml: the box's name, which is the file's, must be a-z and 0-9, with - not at an end, got "x@y"`},
		{"t", "", "", first + `/t.toml:2: description: has %i, which stands for the instance of a profile started as NAME@INSTANCE, got "is %i"`},
		{"bad", "", "", `bad.toml:1: image: must be a string in quotes, got 1`},
	} {
		p, err := s.Load(test.arg)
		message := ""
		if err != nil {
			message = err.Error()
		}
		if message != test.err || p.Name != test.name || p.Description != test.description {
			t.Errorf("%q: got %q, %q, error %q\nwant %q, %q, error %q", test.arg, p.Name, p.Description, message, test.name, test.description, test.err)
		}
		if notFound := errors.Is(err, ErrNotFound); notFound != strings.HasPrefix(test.err, "no such") {
			t.Errorf("%q: got ErrNotFound %v", test.arg, notFound)
		}
	}
}

// What Find gives names the same profile from anywhere, once it is absolute.
func TestRef(t *testing.T) {
	dir := shelf(t, map[string]string{"t.toml": "image = '/x'"})
	ref, err := Search{Dirs: []string{dir}}.Find("t@7")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ref.String(), dir+"/t.toml@7"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p, err := Search{}.Load(ref.String())
	if err != nil || p.Name != "t-7" {
		t.Errorf("got %q, %v, want t-7", p.Name, err)
	}
	if ref, err := (Search{}).Find("hello"); err != nil || ref.String() != "builtin:hello" {
		t.Errorf("got %s, %v, want builtin:hello", ref, err)
	}
}

// A profile is called by its word where that finds it, and else by its file.
func TestCalled(t *testing.T) {
	dir, away := shelf(t, map[string]string{"web.toml": "image = '/x'", "t.toml": "image = '/x'"}), shelf(t, map[string]string{"web.toml": "image = '/x'"})
	t.Chdir(away)
	for _, test := range []struct {
		dirs      []string
		arg, want string
	}{
		{[]string{dir}, dir + "/web.toml", "web"},
		{[]string{dir}, dir + "/t.toml@7", "t@7"},
		{[]string{dir}, away + "/web.toml", away + "/web.toml"},
		{[]string{here, dir}, away + "/web.toml", "web"},
		{[]string{here, dir}, dir + "/web.toml", dir + "/web.toml"},
		{nil, dir + "/t.toml@7", dir + "/t.toml@7"},
		{nil, "hello", "hello"},
		{nil, "builtin:hello@7", "hello@7"},
	} {
		s := Search{Dirs: test.dirs}
		p, err := s.Load(test.arg)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Called(p); got != test.want {
			t.Errorf("%s among %v: got %s, want %s", test.arg, test.dirs, got, test.want)
		}
	}
}

// What a search keeps for another one is found by that.
func TestKeptForAnotherSearch(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o644), os.Mkdir(filepath.Join(dir, "own"), 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	kept := Search{Dirs: []string{here, "own", "/nosuch", file, "/etc/boxrun/profiles", dir}}.Kept()
	if got, want := fmt.Sprint(kept), fmt.Sprint([]string{dir + "/own", dir}); got != want {
		t.Errorf("kept: got %s, want %s", got, want)
	}
	for _, test := range []struct{ dirs, want string }{
		{". /root/p /etc/p", ". /a /b /root/p /etc/p"},
		{"/etc/p", "/a /b /etc/p"},
		{"", "/a /b"},
	} {
		if got := strings.Join((Search{Dirs: strings.Fields(test.dirs)}).With([]string{"/a", "/b"}).Dirs, " "); got != test.want {
			t.Errorf("%q: got %s, want %s", test.dirs, got, test.want)
		}
	}
}

// A box has the profile that it was started from, where no profile is called as it is.
func TestFindABox(t *testing.T) {
	dir := shelf(t, map[string]string{"web.toml": "image = '/x'", "app.toml": "image = '/x'\ndepends_on = ['t-7']"})
	s := Search{Dirs: []string{dir}, Box: func(name string) (Ref, bool) {
		return Ref{File: "/srv/t.toml", Instance: "7"}, name == "t-7" || name == "web"
	}}
	for _, test := range []struct{ arg, want string }{
		{"t-7", "/srv/t.toml@7 <nil>"},
		{"web", dir + "/web.toml <nil>"},
		{"t-8", ` no such profile: "t-8"`},
		{"t-7@2", ` no such profile: "t-7"`},
	} {
		ref, err := s.Find(test.arg)
		if got := fmt.Sprint(ref, " ", err); got != test.want {
			t.Errorf("%s: got %s, want %s", test.arg, got, test.want)
		}
	}
	app, err := s.Load("app")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Dependencies(app)
	if want := dir + `/app.toml: depends_on[0]: no such profile: "t-7"`; err == nil || err.Error() != want {
		t.Errorf("a dependency: got %v, want %s", err, want)
	}
}

// A pipe would keep boxrun waiting, and a huge file would fill the memory.
func TestLoadOdd(t *testing.T) {
	dir := t.TempDir()
	pipe, huge, folder := dir+"/pipe.toml", dir+"/huge.toml", dir+"/folder.toml"
	if err := errors.Join(syscall.Mkfifo(pipe, 0o644), os.Mkdir(folder, 0o755), os.WriteFile(huge, nil, 0o644), os.Truncate(huge, 1<<40)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ file, want string }{
		{pipe, "reading profile " + pipe + ": is not a file, and so no profile: a profile names an image, as image = \"...\""},
		{folder, fmt.Sprintf("%q is an image, and no profile", folder)},
		{huge, "reading profile " + huge + ": has more than 1048576 bytes, and is no profile"},
	} {
		if _, err := (Search{}).Load(test.file); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

// A file that is missing comes with the profile that its name is the name of.
func TestLoadMeant(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/web.toml", []byte("image = \"web.sif\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := Search{Dirs: []string{dir}}
	for arg, want := range map[string]string{
		"web.toml":    `no such profile: "web.toml", did you mean "web"?`,
		"./web":       `no such profile: "./web", did you mean "web"?`,
		"./shop.toml": `no such profile: "./shop.toml"`,
		"web.sif":     `"web.sif" is an image, and no profile`,
	} {
		if _, err := s.Load(arg); err == nil || err.Error() != want || !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v, want %s", arg, err, want)
		}
	}
}

// What is looked at is what is read: a pipe that takes a profile's place in between keeps nobody waiting.
func TestLoadSwapped(t *testing.T) {
	dir := t.TempDir()
	file, pipe, other := dir+"/web.toml", dir+"/pipe", dir+"/other"
	if err := errors.Join(syscall.Mkfifo(pipe, 0o644), os.WriteFile(other, []byte("image = \"web.sif\"\n"), 0o644), os.Link(other, file)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2000 {
			_, _ = readText(file) // refused or not, it comes back
		}
	}()
	patience := time.After(20 * time.Second)
	for i := 0; ; i++ {
		from := []string{pipe, other}[i%2]
		if err := errors.Join(os.Link(from, dir+"/new"), os.Rename(dir+"/new", file), ignoreNotExist(os.Remove(dir+"/new"))); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			return
		case <-patience:
			t.Fatal("a reader waits for somebody to write into the pipe")
		default:
		}
	}
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// A directory that cannot be searched is an error, but for the current one, in which nobody need have put a profile.
func TestAbsent(t *testing.T) {
	for _, test := range []struct {
		dir  string
		err  error
		want bool
	}{
		{here, fs.ErrPermission, true},
		{"/etc/boxrun/profiles", fs.ErrPermission, false},
		{"/etc/boxrun/profiles", fs.ErrNotExist, true},
		{here, fs.ErrNotExist, true},
		{here, syscall.EIO, false},
	} {
		if got := absent(test.dir, &fs.PathError{Op: "stat", Path: test.dir, Err: test.err}); got != test.want {
			t.Errorf("%s, %v: got %v, want %v", test.dir, test.err, got, test.want)
		}
	}
}

func TestFromEnvironment(t *testing.T) {
	t.Setenv("BOXRUN_PROFILES", "/a::b")
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "/home/me")
	etc := " /etc/boxrun/profiles /usr/share/boxrun/profiles"
	check := func(want string) {
		t.Helper()
		if got := strings.Join(FromEnvironment().Dirs, " "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	check(". /a b /home/me/.config/boxrun/profiles" + etc)
	t.Setenv("XDG_CONFIG_HOME", "/xdg")
	t.Setenv("BOXRUN_PROFILES", "")
	check(". /xdg/boxrun/profiles" + etc)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "")
	check("." + etc)
}

func TestList(t *testing.T) {
	const image = "image = '/x'\n"
	t.Chdir(shelf(t, map[string]string{
		"web.toml":       image + "description = 'a web server'",
		"pyproject.toml": "[project]\nname = 'x'", // somebody else's
		"broken.toml":    "image = ",
	}))
	dir := shelf(t, map[string]string{
		"web.toml": image, "job.toml": image + "description = 'job %i'", "empty.toml": "", "README": "", "hello.toml": image,
	})
	found, err := Search{Dirs: []string{here, dir, dir + "/absent"}}.List()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range found {
		lines = append(lines, strings.ReplaceAll(strings.Join([]string{f.Name, f.File, f.Description, f.ShadowedBy, f.Error}, "|"), dir, "DIR"))
		if (f.Err == nil) != (f.Error == "") {
			t.Errorf("%s: error %v, as text %q", f.Name, f.Err, f.Error)
		}
	}
	want := []string{
		`broken|broken.toml|||broken.toml:1: unexpected EOF; expected value`,
		`web|web.toml|a web server||`,
		`empty|DIR/empty.toml|||DIR/empty.toml: image: is missing, every profile needs one`,
		`hello|DIR/hello.toml|||`,
		`job@|DIR/job.toml|job 0||`,
		`web|DIR/web.toml||web.toml|`,
		`coldfront|builtin:coldfront|ColdFront: nginx with TLS, gunicorn, scheduled tasks, PostgreSQL||`,
		`hello|builtin:hello|a page that shows the box, its address and who asked|DIR/hello.toml|`,
	}
	if got, want := strings.Join(lines, "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// A name of a box that is not up is that of a profile, of an instance of one, or of nothing.
func TestBoxesThatProfilesHave(t *testing.T) {
	t.Chdir(t.TempDir())
	dir := shelf(t, map[string]string{"web.toml": "image = '/x'", "job.toml": "image = '/x'\ndescription = 'job %i'"})
	s := Search{Dirs: []string{dir}}
	for _, c := range []struct {
		box      string
		known    bool
		instance string
	}{
		{"web", true, ""}, {"web-1", true, ""}, {"job-1", true, "job@1"}, {"job-a-b", true, "job@a-b"}, {"job", false, ""},
		{"job-", false, ""}, {"jobs-1", false, ""}, {"nosuch", false, ""},
	} {
		if instance, known := s.Knows(c.box); known != c.known || instance != c.instance {
			t.Errorf("%s: got %v and %q, want %v and %q", c.box, known, instance, c.known, c.instance)
		}
	}
}

// Every built-in profile is valid and can be shown.
func TestBuiltin(t *testing.T) {
	files := builtinFiles()
	if len(files) == 0 {
		t.Fatal("got no files")
	}
	for _, file := range files {
		p, err := Search{}.Load(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		roundTrip(t, p, "")
	}
}

// What a person types stands for a box and a short word, whatever has become of the profile.
func TestBoxNameAndWord(t *testing.T) {
	for arg, want := range map[string]string{
		"web":                              "web web",
		"web@1":                            "web-1 web@1",
		"/etc/x/web.toml":                  "web web",
		"/etc/x/web.toml@1":                "web-1 web@1",
		"./web.toml@test":                  "web-test web@test",
		"dir@1/web.toml":                   "web web",
		"/srv/a@b/../boxrun@x/../web.toml": "web web",
		"builtin:hello":                    "hello hello",
		"web@Not_A_Name_Of_A_Box":          "web@Not_A_Name_Of_A_Box web@Not_A_Name_Of_A_Box",
		"/etc/x/web@No":                    "/etc/x/web@No web@No",
	} {
		if got := BoxName(arg) + " " + Word(arg); got != want {
			t.Errorf("%q: got %q, want %q", arg, got, want)
		}
	}
}

// A profile knows what it was read from, and what a person would call it by.
func TestProfileIsFoundAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a-web.toml")
	if err := os.WriteFile(file, []byte("image = '/srv/web.sif'"), 0o600); err != nil {
		t.Fatal(err)
	}
	for arg, word := range map[string]string{file: "a-web", file + "@blue-1": "a-web@blue-1", "builtin:hello": "hello", "builtin:hello@2": "hello@2"} {
		p, err := Search{}.Load(arg)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Ref().String(); got != arg || p.Word() != word {
			t.Errorf("got %s and %s, want %s and %s", got, p.Word(), arg, word)
		}
	}
}

// A file of the same name takes over no box: the box's own file counts while it is there.
func TestABoxKeepsItsFile(t *testing.T) {
	const image = "image = '/x'\n"
	started := shelf(t, map[string]string{"web.toml": image, "t.toml": image})
	t.Chdir(shelf(t, map[string]string{"web.toml": image, "t.toml": image, "gone.toml": image, "db.toml": image}))
	boxes := map[string]Ref{
		"web": {started + "/web.toml", ""}, "t-1": {started + "/t.toml", "1"}, "gone": {started + "/gone.toml", ""},
	}
	s := Search{Dirs: []string{here}, Box: func(name string) (Ref, bool) { ref, ok := boxes[name]; return ref, ok }}
	for _, test := range []struct{ arg, want, other string }{
		{"web", started + "/web.toml", "web.toml"},
		{"t@1", started + "/t.toml@1", "t.toml"},
		{"t-1", started + "/t.toml@1", ""},
		{"t@2", "t.toml@2", ""},
		{"./web.toml", "./web.toml", ""},
		{"gone", "gone.toml", ""},
		{"db", "db.toml", ""},
	} {
		got, err := s.Find(test.arg)
		if other := s.Other(test.arg); err != nil || got.String() != test.want || other != test.other {
			t.Errorf("%s: got %s, %v, not %q, want %s, not %q", test.arg, got, err, other, test.want, test.other)
		}
	}
	// A built-in profile gives way to a file kept for it, and not to the current directory's.
	boxes["hello"] = Ref{"builtin:hello", ""}
	if err := os.WriteFile("hello.toml", []byte(image), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Find("hello"); err != nil || got.File != "builtin:hello" || s.Other("hello") != "hello.toml" {
		t.Errorf("a file in the current directory: got %v, %v", got, err)
	}
	kept := shelf(t, map[string]string{"hello.toml": image})
	if got, err := s.With([]string{kept}).Find("hello"); err != nil || got.File != kept+"/hello.toml" {
		t.Errorf("a file where profiles are kept: got %v, %v", got, err)
	}
	s.FilesFirst = true
	if got, err := s.Find("web"); err != nil || got.File != "web.toml" || s.Other("web") != "" {
		t.Errorf("files first: got %s, %v", got, err)
	}
}
