package enter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
)

// relayWord makes the test binary run the words after it on a terminal of their own, as Ref.Run does in a box.
const relayWord = "relay"

func relay(argv []string) int {
	signals, release := holdSignals()
	defer release()
	code, err := relayTo(signals, Command{Argv: argv, Stdin: os.Stdin, Stdout: os.Stdout, grace: 300 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// relayTo runs a command of this machine on a new terminal of this machine. The step into the box is left out, so the
// command gets its session and controlling terminal here.
func relayTo(signals <-chan os.Signal, c Command) (int, error) {
	l, err := newLine(entry{})
	if err != nil {
		return CodeBoxrun, err
	}
	defer l.close()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	j := &job{cmd: cmd, line: l, signals: signals, grace: c.grace}
	if err := j.runOnPty(context.Background(), c, func() (*os.File, *os.File, error) { return openPty(hostPtys()) }); err != nil {
		return CodeBoxrun, err
	}
	return process.ExitCode(cmd.ProcessState), nil
}

// hostPtys returns the directory with this machine's ptmx. /dev/pts/ptmx is for root only on many machines.
func hostPtys() string {
	if unix.Access("/dev/pts/ptmx", unix.R_OK|unix.W_OK) == nil {
		return "/dev/pts"
	}
	return "/dev"
}

// screen is the terminal a person sits at, in front of boxrun.
type screen struct {
	t       *testing.T
	keys    *os.File // what is typed, and where the picture comes from
	tty     *os.File // what boxrun has as its terminal
	mu      sync.Mutex
	changed *sync.Cond // of picture
	picture bytes.Buffer
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	keys, tty, err := openPty(hostPtys())
	if err != nil {
		testkit.Cannot(t, "no terminals here: %v", err)
	}
	s := &screen{t: t, keys: keys, tty: tty}
	s.changed = sync.NewCond(&s.mu)
	t.Cleanup(func() { tty.Close(); keys.Close() })
	if err := setSize(tty, &unix.Winsize{Row: 33, Col: 101}); err != nil {
		t.Fatal(err)
	}
	go func() { io.Copy(s, keys) }()
	return s
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changed.Broadcast()
	return s.picture.Write(p)
}

// await waits until the picture has text, and fails the test after 10 s.
func (s *screen) await(text string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock() // else the end could come between the look at ctx and Wait
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		shown := strings.ReplaceAll(s.picture.String(), "\r\n", "\n")
		if strings.Contains(shown, text) {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("the screen shows:\n%s\nwant in it:\n%s", shown, text)
		}
		s.changed.Wait()
	}
}

func (s *screen) modes() string {
	s.t.Helper()
	m, err := unix.IoctlGetTermios(int(s.tty.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("iflag %x oflag %x cflag %x lflag %x cc %x", m.Iflag, m.Oflag, m.Cflag, m.Lflag, m.Cc)
}

// boxrun starts the test binary as a relay for a shell script at this screen.
func (s *screen) boxrun(script string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command("/proc/self/exe", relayWord, "sh", "-c", script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.tty, s.tty, s.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return cmd
}

func startShell(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
}

func TestTerminalIsOfItsOwn(t *testing.T) {
	s := newScreen(t)
	own, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", s.tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.boxrun(`test "$(tty)" != ` + own + ` && tty >/dev/null && stty size && exit 7`)
	startShell(t, cmd)
	testkit.WantText(t, testkit.Wait(t, cmd), "exit status 7")
	s.await("33 101\n")
}

func TestKeysReachTheCommand(t *testing.T) {
	s := newScreen(t)
	cmd := s.boxrun(`echo ready; read word; echo "<$word>"; trap 'echo interrupted; exit 3' INT; echo go; for i in $(seq 400); do sleep .05; done`)
	startShell(t, cmd)
	s.await("ready\n")
	io.WriteString(s.keys, "hello\r")
	s.await("<hello>\n")
	s.await("go\n")
	io.WriteString(s.keys, "\x03")
	s.await("interrupted\n")
	testkit.WantText(t, testkit.Wait(t, cmd), "exit status 3")
}

func TestResizeReachesTheCommand(t *testing.T) {
	s := newScreen(t)
	cmd := s.boxrun(`trap 'stty size; exit 0' WINCH; echo ready; for i in $(seq 400); do sleep .05; done`)
	startShell(t, cmd)
	s.await("ready\n")
	if err := setSize(s.tty, &unix.Winsize{Row: 40, Col: 120}); err != nil { // tells boxrun by itself
		t.Fatal(err)
	}
	s.await("40 120\n")
	testkit.WantText(t, testkit.Wait(t, cmd), "exit status 0")
}

// hungUp ends by the loss of its terminal alone, or after a time in which all else has failed: its reads may fail before the
// kernel sends SIGHUP.
const hungUp = `echo ready; for i in $(seq 1200); do read x && exit; sleep .05; done`

func TestModesAreRestored(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		end    func(s *screen, boxrun *os.Process)
		want   string
	}{
		"after the command's end":      {script: `echo ready; read x`, end: typeReturn, want: "exit status 0"},
		"after a failure":              {script: `echo ready; read x; exit 9`, end: typeReturn, want: "exit status 9"},
		"after the command was killed": {script: `echo ready; read x; kill -9 $$`, end: typeReturn, want: "exit status 137"},
		"at SIGTERM":                   {script: hungUp, end: sends(unix.SIGTERM), want: "exit status 129"},
		"at SIGHUP":                    {script: hungUp, end: sends(unix.SIGHUP), want: "exit status 129"},
		"at SIGINT":                    {script: hungUp, end: sends(unix.SIGINT), want: "exit status 129"},
		"at SIGQUIT":                   {script: hungUp, end: sends(unix.SIGQUIT), want: "exit status 129"},
		"where the command minds no signal": {script: `trap '' HUP TERM; echo ready; exec sleep 100`,
			end: sends(unix.SIGTERM), want: "exit status 137"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScreen(t)
			before := s.modes()
			cmd := s.boxrun(c.script)
			startShell(t, cmd)
			s.await("ready\n")
			if s.modes() == before {
				t.Error("the terminal is not in raw mode while the command runs")
			}
			c.end(s, cmd.Process)
			testkit.WantText(t, testkit.Wait(t, cmd), c.want)
			testkit.WantText(t, s.modes(), before)
		})
	}
}

func typeReturn(s *screen, _ *os.Process) { io.WriteString(s.keys, "\r") }

func sends(sig syscall.Signal) func(*screen, *os.Process) {
	return func(_ *screen, p *os.Process) { p.Signal(sig) }
}

func TestModesAreRestoredWhereTheCommandIsMissing(t *testing.T) {
	s := newScreen(t)
	before := s.modes()
	_, err := relayTo(nil, Command{Argv: []string{"/nosuch"}, Stdin: s.tty, Stdout: s.tty})
	testkit.WantText(t, fmt.Sprint(err), "running /nosuch: fork/exec /nosuch: no such file or directory")
	testkit.WantText(t, s.modes(), before)
}

// A reader that goes away (| head) must neither kill boxrun in raw mode nor let it wait for a command that writes on.
func TestOutputNobodyReads(t *testing.T) {
	s := newScreen(t)
	before := s.modes()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.boxrun(`while :; do echo yes || exit 1; done`)
	cmd.Stdout = w
	startShell(t, cmd)
	w.Close()
	io.ReadFull(r, make([]byte, 100))
	r.Close()
	testkit.WantText(t, testkit.Wait(t, cmd), "exit status 129")
	testkit.WantText(t, s.modes(), before)
}

func TestLastOutputIsNotLost(t *testing.T) {
	for name, c := range map[string]struct {
		survivor string
		rounds   int
	}{
		"that all have closed":      {"", 100},
		"that a process keeps open": {"sleep 20 & ", 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := `stty raw -echo; trap "" HUP; ` + c.survivor + `head -c 20000 /dev/zero | tr '\0' x; printf end; exit 4`
			for i := range c.rounds {
				var out bytes.Buffer
				code, err := relayTo(nil, Command{Argv: sh(script), Stdout: &out})
				got := fmt.Sprintf("code %d, error %v, %d bytes, ending %q", code, err, out.Len(), tailOf(out.String(), 4))
				testkit.WantText(t, got, `code 4, error <nil>, 20003 bytes, ending "xend"`)
				if t.Failed() {
					t.Fatalf("in round %d", i)
				}
			}
		})
	}
}

func tailOf(s string, n int) string { return s[max(0, len(s)-n):] }

func TestPipedInputEnds(t *testing.T) {
	for name, c := range map[string]struct{ input, script, want string }{
		"with a line":             {"hi\n", `stty -echo; echo; cat`, "hi\n"},
		"in the middle of a line": {"hi", `stty -echo; echo; cat`, "hi"},
		"without anything":        {"", `echo; cat; stty size`, "24 80\n"},
		"in raw mode":             {"", `stty raw -echo; echo; for i in $(seq 50); do head -c 1 | od -An -c | grep -q 004 && break; done; echo seen $((i < 50))`, "seen 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			out := firstWrite{act: func() { io.WriteString(w, c.input); w.Close() }} // after the stty
			code, err := relayTo(nil, Command{Argv: sh(c.script), Stdin: r, Stdout: &out})
			got := strings.Join(strings.Fields(strings.ReplaceAll(out.text.String(), "\r", "")), " ")
			want := strings.Join(strings.Fields(c.want), " ")
			testkit.WantText(t, fmt.Sprintf("%s (code %d, error %v)", got, code, err), want+" (code 0, error <nil>)")
		})
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	r, w, err := os.Pipe() // never written to: its reader would block for ever
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 20 {
		if code, err := relayTo(nil, Command{Argv: []string{"true"}, Stdin: r, Stdout: io.Discard}); code != 0 || err != nil {
			t.Fatal(code, err)
		}
	}
	testkit.Eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
	testkit.WantText(t, fmt.Sprint(openFiles(t)), fmt.Sprint(files))
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestOpenPtyRefusesWhatIsNone(t *testing.T) {
	dir := t.TempDir()
	_, _, err := openPty(dir)
	testkit.WantText(t, fmt.Sprint(err), "opening a terminal of the box: open "+dir+"/ptmx: no such file or directory")
	if err := os.Symlink("/dev/null", dir+"/ptmx"); err != nil {
		t.Fatal(err)
	}
	_, _, err = openPty(dir)
	testkit.WantText(t, fmt.Sprint(err), "opening a terminal of the box: open "+dir+"/ptmx: too many levels of symbolic links")
}
