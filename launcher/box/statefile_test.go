package box

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
)

// sample stands for what boxrun saves. Its fields are of all kinds that JSON treats specially.
type sample struct {
	Name  string            `json:"name"`
	Count uint64            `json:"count"`
	Env   map[string]string `json:"env"`
	Init  process.Process   `json:"init"`
}

func TestStateIsReadAsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boxes", "web.json")
	for _, name := range []string{"web", "a much longer name, written over by a shorter one", "web"} {
		if err := WriteJSON(path, sample{Name: name, Count: 1<<64 - 1, Env: map[string]string{"A": "<ü>"}, Init: process.Process{PID: 12, Start: 99855}}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, string(text), `{
  "version": 1,
  "state": {
    "name": "web",
    "count": 18446744073709551615,
    "env": {
      "A": "\u003cü\u003e"
    },
    "init": {
      "pid": 12,
      "start": 99855
    }
  }
}
`)
	var got sample
	if err := ReadJSON(path, &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "web" || got.Count != 1<<64-1 || got.Env["A"] != "<ü>" || got.Init.Start != 99855 {
		t.Errorf("got %+v", got)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, info.Mode().String(), "-rw-r--r--")
	testkit.WantText(t, strings.Join(testkit.Names(t, filepath.Dir(path)), " "), "web.json")
}

func TestNoState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.json")
	var got sample
	err := ReadJSON(path, &got)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
	testkit.WantText(t, err.Error(), "reading state: open "+path+": no such file or directory")
}

func TestStrangeStateIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"of a later boxrun":    {`{"version": 2, "state": {"name": "web"}}`, "is of version 2, this boxrun reads 1"},
		"without a version":    {`{"name": "web"}`, "is of version 0, this boxrun reads 1"},
		"cut short":            {`{"version": 1, "state": {"na`, "cannot be read: unexpected end of JSON input"},
		"empty":                {``, "cannot be read: unexpected end of JSON input"},
		"with more behind":     {`{"version": 1, "state": {}} {}`, "cannot be read: invalid character '{' after top-level value"},
		"without state":        {`{"version": 1}`, "holds no state"},
		"with a key too many":  {`{"version": 1, "state": {"nam": "web"}}`, `cannot be read: json: unknown field "nam"`},
		"with a wrong type":    {`{"version": 1, "state": {"count": "x"}}`, "cannot be read: json: cannot unmarshal string into Go struct field sample.count of type uint64"},
		"not JSON":             {"[box]\n", "cannot be read: invalid character 'b' looking for beginning of value"},
		"of the wrong version": {`{"version": "1", "state": {}}`, "cannot be read: json: cannot unmarshal string into Go struct field envelope.version of type int"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "web.json")
			if err := os.WriteFile(path, []byte(test.text), 0o644); err != nil {
				t.Fatal(err)
			}
			var got sample
			err := ReadJSON(path, &got)
			if err == nil {
				t.Fatalf("no error, got %+v", got)
			}
			testkit.WantText(t, err.Error(), "state file "+path+" "+test.want)
		})
	}
}

// On a full disk the state stays as it was. The disk is a file system of the test's own: it runs itself again.
func TestStateOnAFullDisk(t *testing.T) {
	dir := os.Getenv("BOXRUN_TEST_FULL_DISK")
	if dir == "" {
		dir = t.TempDir()
		cmd := exec.Command("unshare", "-rm", "sh", "-c", `mount -t tmpfs -o size=8k tmpfs "$0" && exec "$1" -test.run=^TestStateOnAFullDisk$ -test.v`, dir, "/proc/self/exe")
		cmd.Args[len(cmd.Args)-1] = self(t)
		cmd.Env = append(os.Environ(), "BOXRUN_TEST_FULL_DISK="+dir)
		out, err := cmd.CombinedOutput()
		switch {
		case strings.Contains(string(out), "--- PASS: TestStateOnAFullDisk"):
		case strings.Contains(string(out), "=== RUN"):
			t.Fatalf("%v\n%s", err, out)
		default:
			testkit.Cannot(t, "no mount namespace: %v: %s", err, out)
		}
		return
	}
	path := filepath.Join(dir, "web.json")
	if err := WriteJSON(path, sample{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	err := WriteJSON(path, sample{Name: strings.Repeat("x", 16<<10)})
	if err == nil {
		t.Fatal("no error")
	}
	testkit.WantText(t, err.Error(), "writing state file "+path+": write "+dir+"/.web.json.new: no space left on device")
	var got sample
	if err := ReadJSON(path, &got); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, got.Name, "web")
	testkit.WantText(t, strings.Join(testkit.Names(t, dir), " "), "web.json")
}

// self gives the path of the test binary.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Whatever a state file holds, reading it gives an error or a state that is written and read the same.
func FuzzReadState(f *testing.F) {
	for _, seed := range []string{
		`{"version": 1, "state": {"name": "web", "count": 3, "env": {"A": "b"}, "init": {"pid": 1, "start": 2}}}`,
		`{"version": 2, "state": {}}`, `{"version": 1, "state": null}`, `{"version": 1, "state": [1]}`, "{", "",
	} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "web.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, again sample
		if err := DecodeState(text, &got); err != nil {
			return
		}
		if err := errors.Join(WriteJSON(path, got), ReadJSON(path, &again)); err != nil {
			t.Fatal(err)
		}
		if again.Name != got.Name || again.Count != got.Count || again.Init != got.Init || len(again.Env) != len(got.Env) {
			t.Errorf("read %+v, then %+v", got, again)
		}
	})
}
