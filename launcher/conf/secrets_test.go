package conf

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

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// Root in a box with write access to ROOT/data could replace anything below ROOT/data by a link to another file of
// root's.
func TestSecretsBelowWhatTheBoxWrites(t *testing.T) {
	p, path := secretOf(t, "hunter2")
	root, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Links(t, root, map[string]string{"data/hop": "../pw", "alias": "data", "way": "data/hop", "own": "."})
	if err := os.WriteFile(filepath.Join(root, "data/pw"), []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	const text = `web.toml: secrets.password: "SECRET" lies below "SOURCE" of storage.binds[0], where the box could put a link in its place` +
		" -> name a path that is not below it, or bind that with :ro"
	for _, c := range []struct {
		what, source, secret, want string
		readOnly                   bool
	}{
		{"below", "data", "data/pw", text, false},
		{"below what the box only reads", "data", "data/pw", "", true},
		{"below, by another name", "alias", "data/pw", text, false},
		{"below another name", "data", "alias/pw", text, false},
		{"through a link that is below", "data", "way", text, false},
		{"beside", "data", "pw", "", false},
		{"below the directory above", "own", "data/pw", text, false},
		{"the bound file itself", "pw", "pw", "", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			source, secret := filepath.Join(root, c.source), filepath.Join(root, c.secret)
			p.Secrets["password"] = secret
			p.Storage.Binds = []profiles.Bind{{Source: source, Target: "/mnt", ReadOnly: c.readOnly}}
			_, err := readSecrets(p)
			testkit.WantText(t, Said(err), strings.NewReplacer("SECRET", secret, "SOURCE", source).Replace(c.want))
		})
	}
}

// fileOf is what the kernel would say of a file.
type fileOf struct {
	mode fs.FileMode
	uid  uint32
}

func (f fileOf) Name() string { return "pw" }

func (f fileOf) Size() int64 { return 0 }

func (f fileOf) Mode() fs.FileMode { return f.mode }

func (f fileOf) ModTime() time.Time { return time.Time{} }

func (f fileOf) IsDir() bool { return f.mode.IsDir() }

func (f fileOf) Sys() any { return &syscall.Stat_t{Uid: f.uid} }

// Said gives an error with its hint, "" for none.
func Said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error() + " -> " + fault.HintOf(err)
}

func TestFilesThatAreNoSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		file fileOf
		want string
	}{
		"root's own":           {fileOf{0o600, 0}, ""},
		"for nobody to write":  {fileOf{0o400, 0}, ""},
		"with group bits":      {fileOf{0o640, 0}, `"/k/pw" has mode 0640: not root alone can read or change it -> chmod 600 /k/pw`},
		"for others to write":  {fileOf{0o602, 0}, `"/k/pw" has mode 0602: not root alone can read or change it -> chmod 600 /k/pw`},
		"of somebody":          {fileOf{0o600, 1000}, `"/k/pw" does not belong to root -> chown root /k/pw`},
		"a directory":          {fileOf{fs.ModeDir | 0o700, 0}, `"/k/pw" is not a regular file -> name a file`},
		"a pipe":               {fileOf{fs.ModeNamedPipe | 0o600, 0}, `"/k/pw" is not a regular file -> name a file`},
		"the terminal of root": {fileOf{fs.ModeDevice | 0o600, 0}, `"/k/pw" is not a regular file -> name a file`},
	} {
		t.Run(name, func(t *testing.T) { testkit.WantText(t, Said(refuseOpen("/k/pw", c.file)), c.want) })
	}
}

// What a person types by hand copies the secrets too, and shows none of what they hold.
func TestSecretCommands(t *testing.T) {
	l := &box.Store{Dir: "/run/boxrun"}
	p := profiles.Profile{Name: "web", Secrets: map[string]string{"site.key": "/root/a key", "password": "/root/pw"}}
	testkit.WantText(t, strings.Join(Secrets(l, p, nil).Commands(), "\n"), `install -d -m 700 /run/boxrun/boxes/web/secrets
install -m 400 /root/pw /run/boxrun/boxes/web/secrets/password
install -m 400 '/root/a key' /run/boxrun/boxes/web/secrets/site.key`)
	testkit.WantText(t, fmt.Sprint(SecretBinds(l, p)), "[/run/boxrun/boxes/web/secrets:/etc/secrets:ro]")
	p.Secrets = nil
	_, err := ReadSecrets(l, p)
	none := Secrets(l, p, nil)
	testkit.WantText(t, fmt.Sprint(none.Commands(), SecretBinds(l, p), err, none.Write()), "[] [] <nil> <nil>")
}

// secretOf gives a profile with one secret, in a file of root's.
func secretOf(t *testing.T, content string) (profiles.Profile, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.Cannot(t, "secrets are root's files")
	}
	path := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return profiles.Profile{File: "web.toml", Name: "web", Secrets: map[string]string{"password": path}}, path
}

func TestCopiesOfSecrets(t *testing.T) {
	p, path := secretOf(t, "hunter2")
	l := &box.Store{Dir: t.TempDir(), Caller: box.Caller{Root: true}}
	for range 2 { // the second finds what a killed boxrun left
		contents, err := readSecrets(p)
		if err := errors.Join(err, Secrets(l, p, contents).Write()); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Stat(l.SecretsDir("web"))
	if err != nil {
		t.Fatal(err)
	}
	copied, err := os.Stat(filepath.Join(l.SecretsDir("web"), "password"))
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(l.SecretsDir("web"), "password"))
	testkit.WantText(t, fmt.Sprint(dir.Mode(), copied.Mode(), string(content), err), "drwx------ -r--------hunter2<nil>")

	for content, want := range map[string]string{"hunter2": "[]", "hunter3": "[password]"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		testkit.WantText(t, fmt.Sprint(ChangedSecrets(t.Context(), l, p)), want)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, fmt.Sprint(ChangedSecrets(t.Context(), l, p)), "[password]")
}

func TestSecretsThatCannotBeRead(t *testing.T) {
	p, path := secretOf(t, strings.Repeat("x", maxSecret+1))
	_, err := readSecrets(p)
	testkit.WantText(t, Said(err), `web.toml: secrets.password: "`+path+`" is over 1 MiB, too large for a secret -> bind it instead`)
	p.Secrets["password"] = path + ".none"
	p.Secrets["another"] = filepath.Dir(path)
	_, err = readSecrets(p)
	testkit.WantText(t, Said(err), `web.toml: secrets.another: "`+filepath.Dir(path)+`" is not a regular file
web.toml: secrets.password: no such file: "`+path+`.none" -> name a file`)
}

// Copies of secrets may be kept in /dev/shm. /proc stands for a disk here: it is no tmpfs.
func TestSecretsAreKeptInMemory(t *testing.T) {
	testkit.WantText(t, Said(refuseDisk("/proc/self")), "[secrets]: /proc/self is on a disk, where copies of them would outlive the box -> mount a tmpfs there")
	testkit.WantText(t, Said(refuseDisk("/dev/shm/not/there/yet")), "")
}
