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
		{Query{Follow: true, Lines: new(-1)}, "journalctl --no-pager --follow --lines=all"},
		{Query{Until: "now", Priority: "err", Grep: "a b", Output: "json"},
			"journalctl --no-pager --until=now --priority=err --grep=a b --output=json"},
		{Query{Unit: "nginx", Since: "1 hour ago"}, "journalctl --no-pager --unit=nginx --since=1 hour ago"},
	} {
		testkit.WantText(t, strings.Join(c.logs.argv(), " "), c.want)
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
		code, err := showLog(t.Context(), enter.Ref{Name: "web"}, o, files, &out, nil)
		testkit.WantText(t, fmt.Sprintf("%s code %d error %v", out.String(), code, err), want+" code 0 error <nil>")
	}
	code, err := showLog(t.Context(), enter.Ref{Name: "web"}, Query{Unit: "nginx"}, files, nil, nil)
	testkit.WantText(t, fmt.Sprint(code, err), `125 box "web" keeps no journal, and its log has neither units, times, priorities nor formats`)
	code, err = showLog(t.Context(), enter.Ref{Name: "web"}, Query{Grep: "x"}, files, nil, nil)
	testkit.WantText(t, fmt.Sprint(code, err), `125 box "web" keeps no journal, and its log has neither units, times, priorities nor formats`)
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
	testkit.Eventually(t, want, func() bool { return b.String() == want })
}

func TestFollowingAFile(t *testing.T) {
	t.Parallel()
	box := exec.Command("sleep", "60")
	if err := box.Start(); err != nil {
		t.Fatal(err)
	}
	defer box.Process.Kill()
	path := writeLog(t, "before\n")
	var out safeBuffer
	done := make(chan string)
	go func() {
		code, err := showLog(context.Background(), enter.Ref{Name: "web", PID: box.Process.Pid}, Query{Follow: true},
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
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	code, err := showLog(ctx, enter.Ref{Name: "web", PID: os.Getpid()}, Query{Follow: true}, nil, nil, nil)
	testkit.WantText(t, fmt.Sprint(code, err), "0 <nil>")
}
