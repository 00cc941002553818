package journal

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/enter"
	"boxrun/launcher/testkit"
)

func TestLogsArgv(t *testing.T) {
	for _, c := range []struct {
		logs Query
		want string
	}{
		{Query{}, "journalctl --no-pager"},
		{Query{Follow: true}, "journalctl --no-pager --follow"},
		{Query{Follow: true, Lines: new(5)}, "journalctl --no-pager --follow --lines=5"},
		{Query{Follow: true, Lines: new(0)}, "journalctl --no-pager --quiet --follow --lines=0"},
		{Query{Lines: new(5), timed: true}, "journalctl --no-pager --quiet --output=short-unix --lines=5"},
		{Query{Unit: "nginx", Since: "1 hour ago"}, "journalctl --no-pager --unit=nginx --since=1 hour ago"},
	} {
		testkit.WantText(t, strings.Join(c.logs.argv(), " "), c.want)
	}
}

// The logs are those of Apptainer 1.4.5.
func TestStartCause(t *testing.T) {
	const noise = "ERROR:   container cleanup failed: no instance found with name web\n"
	const starter = "\nFATAL:   while executing starter: failed to start instance: while running " +
		"/usr/lib/x86_64-linux-gnu/apptainer/bin/starter: exit status 255\n"
	for name, c := range map[string]struct{ log, want string }{
		"no init": {"FATAL:   exec /sbin/init failed: a shared library is likely missing in the image\n" + noise,
			"the image has no /sbin/init, or not the interpreter it needs"},
		"an init that is not executable": {"FATAL:   exec /sbin/init failed: permission denied\n" + noise,
			"the image's /sbin/init cannot be executed: permission denied"},
		"an init that dies":                      {"dying\n", "dying"},
		"an init that dies, on the command line": {"dying\n" + starter, "dying"},
		"an address outside": {noise + `FATAL:   container creation failed: plugin type="bridge" failed (add): ` +
			"failed to allocate all requested IPs: 10.99.0.2\n", "the address 10.99.0.2 is not in the bridge's subnet"},
		"an address in use": {noise + `FATAL:   container creation failed: plugin type="bridge" failed (add): ` +
			"failed to allocate for range 0: requested IP address 10.22.0.77 is not available in range set " +
			"10.22.0.1-10.22.255.254\n", "the address 10.22.0.77 is taken by another box"},
		"a lease left over": {noise + `FATAL:   container creation failed: plugin type="bridge" failed (add): ` +
			"failed to allocate for range 0: 10.22.0.7 has been allocated to 34, duplicate allocation is not allowed\n",
			"the address 10.22.0.7 is leased to a box that is gone"},
		"a network unknown": {noise + "FATAL:   container creation failed: network setup failed: no net configuration " +
			"with name \"boxrun-x\" in /run/boxrun/cni\n",
			`network setup failed: no net configuration with name "boxrun-x" in /run/boxrun/cni`},
		"a bind without source": {noise + "FATAL:   container creation failed: mount hook function failure: mount " +
			"/nosuch->/mnt error: while mounting /nosuch: mount source /nosuch doesn't exist\n",
			"the bind's source /nosuch does not exist"},
		"limits without a controller": {noise + "FATAL:   container creation failed: while applying cgroups config: " +
			"while setting cgroup limits: openat2 /sys/fs/cgroup/system.slice/apptainer-1080.scope/memory.max: no such file or directory\n",
			"the resource limits cannot be set: while setting cgroup limits: openat2 " +
				"/sys/fs/cgroup/system.slice/apptainer-1080.scope/memory.max: no such file or directory"},
		"a capability missing": {"\x1b[91mERROR  : Requesting capability set 0x000001ffffbdffff while permitted capability " +
			"set is 0x000001fffeffffff\n\x1b[0m", "the kernel lacks a capability that Apptainer asks for " +
			`(see "root default capabilities" in apptainer.conf)`},
		"noise of the network plugins": {"ERROR:   could not delete networks: plugin type=\"firewall\" failed (delete): x\n" +
			noise + "FATAL:   container creation failed: error while setting network arguments: badly formatted\n" + starter,
			"error while setting network arguments: badly formatted"},
		"an image that is none": {"FATAL:   While checking container encryption: could not open image /x.sif: image format " +
			"not recognized\n", "While checking container encryption: could not open image /x.sif: image format not recognized"},
		"nothing": {"", ""},
		"success": {"INFO:    instance started successfully\n", ""},
	} {
		t.Run(name, func(t *testing.T) { testkit.WantText(t, apptainer.Cause(c.log), c.want) })
	}
}

func writeLog(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "web.err")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLogsOfABoxWithoutJournal(t *testing.T) {
	files := []logFile{
		{Path: writeLog(t, "of an earlier start\none\ntwo\nthree"), From: 20},
		{Path: filepath.Join(t.TempDir(), "never written")},
	}
	for want, o := range map[string]Query{
		"one\ntwo\nthree": {},
		"two\nthree":      {Lines: new(2)},
		"":                {Lines: new(0)},
	} {
		var out bytes.Buffer
		code, err := showLogs(t.Context(), enter.Ref{Name: "web"}, o, files, &out, nil)
		testkit.WantText(t, fmt.Sprintf("%s code %d error %v", out.String(), code, err), want+" code 0 error <nil>")
	}
	code, err := showLogs(t.Context(), enter.Ref{Name: "web"}, Query{Unit: "nginx"}, files, nil, nil)
	testkit.WantText(t, fmt.Sprint(code, err), `125 box "web" keeps no journal, and its log has neither units nor times`)
}

// safeBuffer is a buffer for a writing goroutine and a reading goroutine.
type safeBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *safeBuffer) await(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); b.String() != want && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	testkit.WantText(t, b.String(), want)
}

func TestFollowingAFile(t *testing.T) {
	box := exec.Command("sleep", "60")
	if err := box.Start(); err != nil {
		t.Fatal(err)
	}
	defer box.Process.Kill()
	path := writeLog(t, "before\n")
	var out safeBuffer
	done := make(chan string)
	go func() {
		code, err := showLogs(context.Background(), enter.Ref{Name: "web", PID: box.Process.Pid}, Query{Follow: true},
			[]logFile{{Path: path}}, &out, nil)
		done <- fmt.Sprint(code, err)
	}()
	out.await(t, "before\n")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, "after")
	out.await(t, "before\nafter\n")
	fmt.Fprintln(f, "last words")
	box.Process.Kill()
	box.Wait()
	testkit.WantText(t, <-done, "0 <nil>")
	testkit.WantText(t, out.String(), "before\nafter\nlast words\n")
}

func TestFollowingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	code, err := showLogs(ctx, enter.Ref{Name: "web", PID: os.Getpid()}, Query{Follow: true}, nil, nil, nil)
	testkit.WantText(t, fmt.Sprint(code, err), "0 <nil>")
}
