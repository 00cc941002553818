package enter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
)

// fakeApptainer puts a program on $PATH as Apptainer. The program notes its argv in the file returned, and runs the
// command for the instance as Apptainer does: in a child, and waits for the child. Instances named "gone" do not exist.
func fakeApptainer(t *testing.T) (log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "argv")
	script := `#!/bin/sh
echo "$@" >>` + log + `
while [ $# -gt 0 ]; do
	case $1 in
	instance://gone) echo "FATAL:   no instance found with name gone" >&2; exit 255 ;;
	instance://stuck) exec sleep 60 ;;
	instance://*) shift; "$@"; exit $? ;;
	esac
	shift
done
`
	if err := os.WriteFile(filepath.Join(dir, "apptainer"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return log
}

// needRoot skips tests that become a user on the way, unless run as root.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		testkit.Cannot(t, "only root can become another user")
	}
}

func testBox() Ref {
	return Ref{Name: "web", PID: os.Getpid(), Conf: "/c.conf", Home: "/root", Drop: "CAP_SYS_BOOT,CAP_SYS_RAWIO"}
}

// runHere runs e in a box that is this machine, and returns the outcome.
func runHere(ctx context.Context, b Ref, e Command) string {
	var out, errOut bytes.Buffer
	e.Stdout, e.Stderr = &out, &errOut
	code, err := b.Run(ctx, e)
	text := fmt.Sprintf("code %d\n%s", code, strings.ReplaceAll(out.String(), "\r\n", "\n"))
	if errOut.Len() > 0 {
		text += "stderr: " + errOut.String()
	}
	if err != nil {
		text += "error: " + err.Error() + "\n"
	}
	return text
}

func sh(script string) []string { return []string{"sh", "-c", script} }

func TestArgv(t *testing.T) {
	testkit.WantText(t, strings.Join(Ref{Name: "web", Drop: "CAP_SYS_BOOT,CAP_SYS_RAWIO"}.Argv(), " "),
		"apptainer -q exec --drop-caps CAP_SYS_BOOT,CAP_SYS_RAWIO --cwd / instance://web /proc/self/fd/3")
}

func TestExecCodes(t *testing.T) {
	needRoot(t)
	fakeApptainer(t)
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "script": 0o755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/nosuch/interpreter\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		exec Command
		want string
	}{
		"success":             {Command{Argv: sh("echo out; echo err >&2")}, "code 0\nout\nstderr: err\n"},
		"the command's code":  {Command{Argv: sh("exit 7")}, "code 7\n"},
		"255 of the command":  {Command{Argv: sh("exit 255")}, "code 255\n"},
		"not on PATH":         {Command{Argv: []string{"nosuch"}}, "code 127\nerror: nosuch: no such command in the box's PATH\n"},
		"no such file":        {Command{Argv: []string{"/no/such"}}, "code 127\nerror: /no/such: no such file in the box\n"},
		"a directory":         {Command{Argv: []string{"/etc"}}, "code 126\nerror: /etc: is a directory\n"},
		"not executable":      {Command{Argv: []string{dir + "/plain"}}, "code 126\nerror: " + dir + "/plain: permission denied\n"},
		"no interpreter":      {Command{Argv: []string{dir + "/script"}}, "code 126\nerror: " + dir + "/script: its interpreter is missing\n"},
		"no such directory":   {Command{Argv: sh("pwd"), Dir: "/nosuch"}, "code 125\nerror: working directory \"/nosuch\": no such file or directory\n"},
		"a relative one":      {Command{Argv: sh("pwd"), Dir: "etc"}, "code 125\nerror: working directory \"etc\" is not an absolute path\n"},
		"a directory there":   {Command{Argv: sh("pwd"), Dir: "/etc"}, "code 0\n/etc\n"},
		"no directory asked":  {Command{Argv: sh("pwd")}, "code 0\n/\n"},
		"no such user":        {Command{Argv: sh("id -u"), User: "nosuch"}, "code 125\nerror: user \"nosuch\": not in the box's /etc/passwd\n"},
		"a number for a user": {Command{Argv: sh("id -u; id -g; id -G"), User: "4321:8765"}, "code 0\n4321\n8765\n8765\n"},
		"PATH asked for":      {Command{Argv: []string{"script"}, Env: []string{"PATH=" + dir}}, "code 126\nerror: " + dir + "/script: its interpreter is missing\n"},
		"a bad variable":      {Command{Argv: sh("env"), Env: []string{"FOO"}}, "code 125\nerror: environment: \"FOO\" is not of the form NAME=VALUE\n"},
		"no command":          {Command{}, "code 125\nerror: no command to run\n"},
	} {
		t.Run(name, func(t *testing.T) { testkit.WantText(t, runHere(t.Context(), testBox(), c.exec), c.want) })
	}
}

func TestExecWhereTheBoxIsGone(t *testing.T) {
	fakeApptainer(t)
	testkit.WantText(t, runHere(t.Context(), Ref{Name: "gone"}, Command{Argv: sh("true")}), "code 125\n"+
		"stderr: FATAL:   no instance found with name gone\n"+
		"error: entering box \"gone\": apptainer ended with exit status 255 before the command ran\n")
}

// The command has the environment of a login, no open files and no capabilities to pass on. Values given with -e appear
// in no process list.
func TestExecIsClean(t *testing.T) {
	needRoot(t)
	log := fakeApptainer(t)
	t.Setenv("APPTAINER_SECRET", "of the caller")
	got := runHere(t.Context(), testBox(), Command{
		User: "nobody", Env: []string{"TOKEN=hush", "LANG=C", "SHELL=/bin/x", "HOME=/h"},
		Argv: sh("env | sort; ls /proc/self/fd; umask; grep -E 'Cap(Inh|Prm|Amb)' /proc/self/status"),
	})
	testkit.WantText(t, got, `code 0
HOME=/h
LANG=C
LOGNAME=nobody
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PWD=/
SHELL=/bin/x
TOKEN=hush
USER=nobody
0
1
2
3
0022
CapInh:	0000000000000000
CapPrm:	0000000000000000
CapAmb:	0000000000000000
`)
	argv, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, string(argv),
		"-q -c /c.conf exec --drop-caps CAP_SYS_BOOT,CAP_SYS_RAWIO --cwd / instance://web /proc/self/fd/3\n")
}

func TestExecReadsPipedInput(t *testing.T) {
	needRoot(t)
	fakeApptainer(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() { io.WriteString(w, "hi\n"); w.Close() }()
	testkit.WantText(t, runHere(t.Context(), testBox(), Command{Argv: []string{"cat"}, Stdin: r}), "code 0\nhi\n")
	testkit.WantText(t, runHere(t.Context(), testBox(), Command{Argv: []string{"cat"}}), "code 0\n")
}

// If the input is a terminal, boxrun reads the terminal for the command. A control-D on the terminal ends the input.
func TestExecReadsATerminalWithoutHavingIt(t *testing.T) {
	needRoot(t)
	fakeApptainer(t)
	s := newScreen(t)
	io.WriteString(s.keys, "typed\r\x04")
	testkit.WantText(t, runHere(t.Context(), testBox(), Command{Argv: sh("tty; cat"), Stdin: s.tty}), "code 0\nnot a tty\ntyped\n")
}

// waits is a program for sh: once the line is out, all processes of the group wait for a signal.
const waits = `sh -c 'echo; exec sleep 100'`

func TestExecPassesSignalsOn(t *testing.T) {
	needRoot(t)
	fakeApptainer(t)
	for name, c := range map[string]struct {
		script string
		send   unix.Signal
		want   string
	}{
		"that the command answers":      {`trap 'exit 5' INT; ` + waits, unix.SIGINT, "code 5\n\n"},
		"to all of its process group":   {waits + `; exit 6`, unix.SIGINT, "code 130\n\n"},
		"SIGTERM":                       {waits, unix.SIGTERM, "code 143\n\n"},
		"SIGHUP that the command minds": {`trap 'echo hup; exit 0' HUP; ` + waits, unix.SIGHUP, "code 0\n\nhup\n"},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.WantText(t, whenReady(t.Context(), Command{Argv: sh(c.script)}, func() { unix.Kill(os.Getpid(), c.send) }), c.want)
		})
	}
}

func TestExecEndsWithItsContext(t *testing.T) {
	needRoot(t)
	fakeApptainer(t)
	ctx, cancel := context.WithCancel(t.Context())
	testkit.WantText(t, whenReady(ctx, Command{Argv: sh(waits)}, cancel), "code 143\n\n")
	ctx, cancel = context.WithCancel(t.Context())
	const grace = 300 * time.Millisecond
	var began time.Time
	end := func() { began = time.Now(); cancel() }
	testkit.WantText(t, whenReady(ctx, Command{Argv: sh(`trap "" TERM; ` + waits), grace: grace}, end), "code 137\n\n")
	if took := time.Since(began); took < grace || took >= endTimeout {
		t.Errorf("it was killed after %v, want a little more than %v", took, grace)
	}
}

// A box that lets no command begin, and a command that prints nothing, keep boxrun waiting for a while only.
func TestExecEndsWhatKeepsItWaiting(t *testing.T) {
	needRoot(t)
	fakeApptainer(t)
	const most = 300 * time.Millisecond
	testkit.WantText(t, runHere(t.Context(), Ref{Name: "stuck"}, Command{Argv: sh("true"), begin: most}),
		"code 125\nerror: entering box \"stuck\": the box has let no command begin for 300ms\n")
	testkit.WantText(t, runHere(t.Context(), testBox(), Command{Argv: sh("sleep 0.6"), begin: most}), "code 0\n")
	got := runHere(t.Context(), testBox(), Command{Argv: sh("echo a; sleep 60"), Quiet: most})
	testkit.WantText(t, strings.Replace(got, "stderr: Killed\n", "", 1), // the stand-in for Apptainer may have said so
		"code 125\na\nerror: entering box \"web\": the command in the box has printed nothing for 300ms\n")
	testkit.WantText(t, runHere(t.Context(), testBox(), Command{Argv: sh("for i in 1 2 3 4; do sleep 0.1; echo $i >&2; done"), Quiet: most}),
		"code 0\nstderr: 1\n2\n3\n4\n")
}

// A command that is stopped takes no signal, and ends all the same.
func TestExecEndsADeafCommand(t *testing.T) {
	needRoot(t)
	fakeApptainer(t)
	end := func() { time.Sleep(100 * time.Millisecond); unix.Kill(os.Getpid(), unix.SIGTERM) }
	testkit.WantText(t, whenReady(t.Context(), Command{Argv: sh("echo; kill -STOP $$"), grace: 300 * time.Millisecond}, end), "code 137\n\n")
}

// whenReady runs c in the box, and calls act once the command has written something.
func whenReady(ctx context.Context, c Command, act func()) string {
	out := firstWrite{act: act}
	c.Stdout = &out
	code, err := testBox().Run(ctx, c)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("code %d\n%s", code, out.text.String())
}

// firstWrite keeps what is written, and calls act at the first write.
type firstWrite struct {
	text bytes.Buffer
	act  func()
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if w.text.Len() == 0 {
		w.act()
	}
	return w.text.Write(p)
}

// The command leads its own session and has the terminal as controlling terminal. The terminal belongs to the user.
func TestExecOnATerminal(t *testing.T) {
	needRoot(t)
	fakeApptainer(t)
	t.Setenv("TERM", "vt220")
	got := runHere(t.Context(), testBox(), Command{
		User: "nobody", TTY: true,
		Argv: sh(`tty | sed 's/[0-9]*$/N/'; stat -Lc %U /dev/stdin; echo $TERM; : >/dev/tty && echo controlling
			[ "$(ps -o sid= -p $$)" -eq $$ ] && [ "$(ps -o tpgid= -p $$)" -eq $$ ] && echo leader; exit 3`),
	})
	testkit.WantText(t, got, "code 3\n/dev/pts/N\nnobody\nvt220\ncontrolling\nleader\n")
}

func TestLoginShell(t *testing.T) {
	needRoot(t)
	fakeApptainer(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() { io.WriteString(w, "echo $0; pwd\n"); w.Close() }()
	root, err := lookUser("")
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, runHere(t.Context(), testBox(), Command{Login: true, Stdin: r}),
		fmt.Sprintf("code 0\n-%s\n%s\n", filepath.Base(root.loginShell()), root.Home))
}

// Apptainer looks for its record of a box below the host's name of today.
func TestHomeOfARenamedHost(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	b := Ref{Name: "web", Home: home, Dir: t.TempDir(), Record: apptainer.RecordPath(home, hostname, "web")}
	if got, err := b.home(); got != home || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, home)
	}
	b.Record = apptainer.RecordPath(home, "old-"+hostname, "web")
	if err := os.MkdirAll(filepath.Dir(b.Record), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.Record, []byte("it"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := b.home()
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(apptainer.RecordPath(got, hostname, "web"))
		testkit.WantText(t, fmt.Sprintf("%s, %v", text, err), "it, <nil>")
	}
}

// A command for a box that another boxrun starts is told to wait, and for a box that is gone, how to get it back.
func TestABoxThatDoesNotRunYet(t *testing.T) {
	s := &box.Store{Dir: t.TempDir()}
	for phase, want := range map[box.Phase]string{
		box.Starting: `another boxrun starts it: wait until "boxrun status --check web" finds it well`,
		box.Running:  `"boxrun up web" brings it up again`,
	} {
		id, err := process.BootID()
		if err := errors.Join(err, s.Save(&box.Box{Name: "web", Phase: phase, BootID: id})); err != nil {
			t.Fatal(err)
		}
		_, err = Find(s, "web")
		testkit.WantText(t, fault.HintOf(err), want)
	}
}
