package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
	"boxrun/launcher/processtest"
	"boxrun/launcher/testkit"
)

func TestUnitName(t *testing.T) {
	t.Parallel()
	var got []string
	for _, unit := range []string{"nginx", "nginx.service", "ssh.socket", "getty@tty1", "my.app", "a.b.timer", "multi-user.target"} {
		got = append(got, UnitName(unit))
	}
	testkit.WantText(t, strings.Join(got, " "),
		"nginx.service nginx.service ssh.socket getty@tty1.service my.app.service a.b.timer multi-user.target")
}

// inPrivateRun runs a script as root of a user, mount and PID namespace, with a /run and a PID 1 of its own.
func inPrivateRun(t *testing.T, script string) process.Process {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "pid")
	outer := processtest.Running(t, "unshare", "/usr/bin/unshare", "-rmpf", "--kill-child", "--mount-proc", "--propagation", "private", "sh", "-c",
		"mount -t tmpfs tmpfs /run && mkdir -p /run/systemd && "+script+" && echo > "+mark+"; exec sleep 60")
	for began := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(mark); err == nil {
			break
		}
		if time.Since(began) > time.Minute {
			testkit.Cannot(t, "no namespaces for a /run of one's own")
		}
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", outer.PID, outer.PID))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(children), &pid); err != nil {
		t.Fatal(err)
	}
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// listenInBox listens on the socket of the box's systemd.
func listenInBox(t *testing.T, box process.Process) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", process.ProcFile(box.PID, "root/run/systemd/private"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A link in a box leads to a place in the box; whoever followed it here would open the host's.
func TestLinksInABoxAreNotFollowed(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "private")
	if err := os.WriteFile(outside, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"the socket":    "ln -s " + outside + " /run/systemd/private",
		"its directory": "rmdir /run/systemd && ln -s " + filepath.Dir(outside) + " /run/systemd",
	} {
		t.Run(name, func(t *testing.T) {
			box := inPrivateRun(t, script)
			fd, err := process.OpenInside(t.Context(), box.PID, "run", "systemd", "private")
			if err != nil {
				return
			}
			defer unix.Close(fd)
			var got, host unix.Stat_t
			if err := errors.Join(unix.Fstat(fd, &got), unix.Stat(outside, &host)); err != nil {
				t.Fatal(err)
			}
			if got.Mode&unix.S_IFMT != unix.S_IFLNK || got.Ino == host.Ino && got.Dev == host.Dev {
				t.Errorf("opened %+v, want the link itself or an error", got)
			}
		})
	}
}

func TestNoSystemd(t *testing.T) {
	t.Parallel()
	box := inPrivateRun(t, "true")
	abandoned := box.PID
	l := listenInBox(t, box)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for name, pid := range map[string]int{
		"no socket":       inPrivateRun(t, "true").PID,
		"no directory":    inPrivateRun(t, "rmdir /run/systemd").PID,
		"nobody listens":  abandoned,
		"no such process": 1 << 30,
	} {
		t.Run(name, func(t *testing.T) {
			if pid == abandoned && os.Getuid() != 0 {
				testkit.Cannot(t, "only root can enter a namespace")
			}
			_, err := Dial(t.Context(), pid)
			if !errors.Is(err, errNoSystemd) {
				t.Errorf("got %v, want %v", err, errNoSystemd)
			}
		})
	}
}

// systemd talks to processes of its own PID namespace alone. This test looks at all threads of the process, so it is
// not parallel.
func TestConnectionComesFromInsideTheBox(t *testing.T) {
	if os.Getuid() != 0 {
		testkit.Cannot(t, "only root can enter a namespace")
	}
	box := inPrivateRun(t, "true")
	l := listenInBox(t, box)
	defer l.Close()
	socket, err := process.OpenInside(t.Context(), box.PID, "run", "systemd", "private")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	conn, err := connectInBox(box.PID, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := accepted.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	peer := peerCred(t, accepted)
	if peer.Pid == int32(os.Getpid()) || peer.Uid != 0 {
		t.Errorf("the peer is %+v, want a child of %d, root", peer, os.Getpid())
	}
	testkit.WantText(t, strings.Join(strayThreads(t), " "), "")
}

func peerCred(t *testing.T, c net.Conn) *unix.Ucred {
	t.Helper()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var peer *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return peer
}

// strayThreads gives the threads of this process whose children would be born in another PID namespace.
func strayThreads(t *testing.T) []string {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/ns/pid_for_children")
	if err != nil || len(tasks) == 0 {
		t.Fatal(tasks, err)
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	var stray []string
	for _, task := range tasks {
		if ns, err := os.Readlink(task); err == nil && ns != own {
			stray = append(stray, task)
		}
	}
	return stray
}

// A systemd that froze still has its socket, and nobody who answers.
func TestFrozenSystemd(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		testkit.Cannot(t, "only root can enter a namespace")
	}
	box := inPrivateRun(t, "true")
	l := listenInBox(t, box)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Dial(ctx, box.PID)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 20*time.Second {
		t.Errorf("got %v after %v, want %v at once", err, time.Since(began), context.DeadlineExceeded)
	}
}

func TestRunsSystemd(t *testing.T) {
	t.Parallel()
	p := processtest.Shell(t, "READY; exec sleep 60")
	is, err := runsSystemd(p.PID)
	testkit.WantText(t, fmt.Sprint(is, err), "false <nil>")
	if _, err := runsSystemd(1 << 30); err == nil {
		t.Error("a process that is gone: no error")
	}
}
