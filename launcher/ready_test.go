package launcher

import (
	"net"
	"os"
	"testing"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
	"boxrun/netsetup/nstest"
	"boxrun/profiles"
)

// The page of a hello box is there when the wait is over, however late the init comes to it.
func TestAwaitHello(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	b := &box.Box{Name: "hello", Profile: profiles.Profile{Image: "builtin:hello"}, Init: process.Process{PID: os.Getpid()}}
	listening := make(chan net.Listener)
	go func() {
		time.Sleep(200 * time.Millisecond)
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:80")
		if err != nil {
			t.Error(err)
		}
		listening <- l
	}()
	if err := awaitHello(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", "127.0.0.1:80", time.Second)
	if err != nil {
		t.Fatalf("after the wait: %v", err)
	}
	_, _ = conn.Close(), (<-listening).Close()
}
