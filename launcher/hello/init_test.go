package hello

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
)

func askHello(t *testing.T, accept string) (answer *http.Response, body, log string) {
	t.Helper()
	var lines bytes.Buffer
	s := httptest.NewServer(helloHandler(&lines, time.Now().Add(-90*time.Second)))
	r, err := http.NewRequest("GET", s.URL+"/some/path", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "web.example:8080"
	r.Header.Set("Accept", accept)
	answer, err = http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.Close() // after Close the handler writes no more to lines
	return answer, string(text), lines.String()
}

func TestHelloForCurl(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	answer, body, log := askHello(t, "*/*")
	testkit.WantText(t, answer.Header.Get("Content-Type"), "text/plain; charset=utf-8")
	testkit.WantText(t, body, "Hello from "+name+`, a box that boxrun brought up.

  box       `+name+`
  address   127.0.0.1
  asked at  web.example:8080
  asked by  127.0.0.1
  up        1m30s
`)
	testkit.WantText(t, log, "hello: GET /some/path from 127.0.0.1\n")
}

func TestHelloForABrowser(t *testing.T) {
	answer, body, _ := askHello(t, "text/html,application/xhtml+xml;q=0.9")
	testkit.WantText(t, answer.Header.Get("Content-Type"), "text/html; charset=utf-8")
	if want := "<dt>asked at</dt><dd>web.example:8080</dd>\n"; !strings.Contains(body, want) {
		t.Errorf("got:\n%s\nwant in it:\n%s", body, want)
	}
}

func TestHelloEscapesWhatItWasAsked(t *testing.T) {
	got := page{Box: "a&b", Asked: "<script>"}.html()
	for _, want := range []string{"<dd>&lt;script&gt;</dd>", "<h1>Hello from a&amp;b</h1>"} {
		if !strings.Contains(got, want) {
			t.Errorf("got:\n%s\nwant in it:\n%s", got, want)
		}
	}
}

// helloBox is hello's init as process 1 of its own process and network namespaces.
type helloBox struct {
	t   *testing.T
	cmd *exec.Cmd
	log *os.File
}

func startHello(t *testing.T) *helloBox {
	t.Helper()
	for _, tool := range []string{"nsenter", "ip", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			testkit.Cannot(t, "looking into hello's namespaces: %v", err)
		}
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{Path}
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // or the race detector takes a second to end
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		testkit.Cannot(t, "starting hello in namespaces of its own: %v", err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	h := &helloBox{t: t, cmd: cmd, log: log}
	h.await("its page", func() bool { return strings.Contains(h.text(), "serving on") })
	return h
}

func (h *helloBox) text() string {
	h.t.Helper()
	text, err := os.ReadFile(h.log.Name())
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

func (h *helloBox) await(what string, there func() bool) {
	h.t.Helper()
	for end := time.Now().Add(5 * time.Second); !there(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("waiting for %s in vain; hello's log:\n%s", what, h.text())
		}
	}
}

// run runs a shell script in hello's namespaces.
func (h *helloBox) run(script string) string {
	h.t.Helper()
	out, err := exec.Command("nsenter", "-t", fmt.Sprint(h.cmd.Process.Pid), "-U", "-p", "-n", "--preserve-credentials",
		"sh", "-c", script).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// children gives the numbers of hello's children, dead ones too where nobody has reaped them.
func (h *helloBox) children() []string {
	h.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", h.cmd.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// At the start, the only network device is lo, and lo is down.
func TestHelloServesAsProcessOne(t *testing.T) {
	h := startHello(t)
	testkit.WantText(t, h.run("ip link set lo up && curl -s --max-time 5 http://127.0.0.1/ | grep asked"),
		"  asked at  127.0.0.1\n  asked by  127.0.0.1\n")
	testkit.WantText(t, h.text(), "hello: serving on [::]:80\nhello: GET / from 127.0.0.1\n")
}

func TestHelloReaps(t *testing.T) {
	h := startHello(t)
	h.run("for i in 1 2 3 4 5; do (sleep 100 >/dev/null 2>&1 &) ; done") // the parent ends at once
	h.await("orphans", func() bool { return len(h.children()) == 5 })
	for _, orphan := range h.children() {
		pid, err := strconv.Atoi(orphan)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	h.await("their burial", func() bool { return len(h.children()) == 0 })
}

func TestHelloHalts(t *testing.T) {
	for _, sig := range []syscall.Signal{process.HaltSignal, unix.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			h := startHello(t)
			began := time.Now()
			if err := h.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			testkit.WantText(t, testkit.Wait(t, h.cmd), "exit status 0")
			if took := time.Since(began); took > 5*time.Second { // of the ten that Apptainer waits, as the machine may be busy
				t.Errorf("halting took %v, want it at once", took)
			}
		})
	}
}

// A taken port, as may happen in host mode, does not end the box: a person can still enter the box.
func TestHelloLivesWithoutItsPage(t *testing.T) {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		testkit.Cannot(t, "taking port 80: %v", err)
	}
	defer l.Close()
	var log bytes.Buffer
	serveHello(&log)
	testkit.WantText(t, log.String(), "hello: listen tcp :80: bind: address already in use\n")
}

func TestHelloRootHasEveryMountPoint(t *testing.T) {
	dir := t.TempDir()
	host := makeRoot(t, dir)
	binds := host.Binds("/proc/self/exe")
	for _, want := range []string{"/proc/self/exe:/sbin/init:ro", "/usr:/usr:ro"} {
		if !slices.Contains(binds, want) {
			t.Errorf("got binds:\n%s\nwant among them:\n%s", strings.Join(binds, "\n"), want)
		}
	}
	for _, b := range binds {
		words := strings.Split(b, ":")
		testkit.WantText(t, words[1]+kindOf(filepath.Join(dir, words[1])), words[1]+kindOf(words[0]))
	}
	testkit.WantText(t, kindOf(filepath.Join(dir, "sbin")), " directory") // a link would put init into the host's /usr
	testkit.WantText(t, fmt.Sprint(os.Readlink(filepath.Join(dir, "bin"))), fmt.Sprint(os.Readlink("/bin")))
}

// makeRoot makes the sandbox of builtin:hello in dir.
func makeRoot(t *testing.T, dir string) Host {
	t.Helper()
	host, err := Look()
	if err := errors.Join(err, host.Root(dir).Write()); err != nil {
		t.Fatal(err)
	}
	return host
}

func kindOf(path string) string {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return " " + err.Error()
	case info.IsDir():
		return " directory"
	default:
		return " file"
	}
}

// Boxes may run from the root while another one starts.
func TestHelloRootIsNotDisturbed(t *testing.T) {
	dir := t.TempDir()
	makeRoot(t, dir)
	if err := os.Remove(filepath.Join(dir, "etc/group")); err != nil { // as if boxrun had been killed halfway
		t.Fatal(err)
	}
	passwd := filepath.Join(dir, "etc/passwd")
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(passwd, old, old); err != nil {
		t.Fatal(err)
	}
	makeRoot(t, dir)
	info, err := os.Stat(passwd)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, fmt.Sprint(info.ModTime().Equal(old), kindOf(filepath.Join(dir, "etc/group"))), "true file")
}
