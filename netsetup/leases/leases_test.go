package leases

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"boxrun/netsetup/nstest"

	"golang.org/x/sys/unix"
)

// lockWait is enough to find out that nobody lets go of a lock, and longer than the holder in the test keeps the lock.
const lockWait = 300 * time.Millisecond

func collecting(results string) collector { return collector{results: results, lockWait: lockWait} }

// deadPID returns the pid of a process that has ended.
func deadPID(t *testing.T) int {
	t.Helper()
	pid, stop := nstest.Sleeper(t)
	stop()
	return pid
}

// tree lists the files below root, one a line.
func tree(t *testing.T, root string) string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(files, "\n")
}

func resultOf(pid int) string {
	return fmt.Sprintf(`{"kind":"cniCacheV1","containerId":"%d","ifName":"eth0"}`, pid)
}

func TestCollectLeases(t *testing.T) {
	alive, _ := nstest.Sleeper(t)
	dead := deadPID(t)
	root := nstest.Root(t, map[string]string{
		"run/boxrun-sbr0/10.22.0.2":                       nstest.Lease(alive),
		"run/boxrun-sbr0/10.22.0.3":                       nstest.Lease(dead),
		"run/boxrun-sbr0/last_reserved_ip.0":              "10.22.0.3",
		"run/boxrun-sbr0/lock":                            "",
		"var/bridge/10.22.0.4":                            nstest.Lease(dead) + "\r\n",
		"var/bridge/10.22.0.5":                            nstest.Lease(1), // no box is the host's init
		"var/bridge/10.22.0.6":                            "",              // the plugin is about to write it
		"var/bridge/fd00::2":                              nstest.Lease(dead),
		"var/podman/10.88.0.2":                            "36d0b7c0aa57d4b6bd0a1ca4fbcc1d0ac3a2d5b9d0ae4c0a9d94f10a8ff6fe0e\r\neth0",
		"var/podman/10.88.0.3":                            "99999999999999999999999\r\neth0",
		"var/podman/10.88.0.4/a-directory":                nstest.Lease(dead),
		"var/10.22.0.7":                                   nstest.Lease(dead), // dirs may be the networks' own
		fmt.Sprintf("results/boxrun-sbr0-%d-eth0", alive): resultOf(alive),
		fmt.Sprintf("results/boxrun-sbr0-%d-eth0", dead):  resultOf(dead),
		fmt.Sprintf("results/my-net-%d-eth1", dead):       resultOf(dead),
		fmt.Sprintf("results/podman-app-%d-eth0", dead):   fmt.Sprintf(`{"kind":"cniCacheV1","containerId":"app-%d"}`, dead),
		"results/podman-f6d0b7c0aa57-eth0":                `{"containerId":"f6d0b7c0aa57"}`,
		"results/half-written-eth0":                       `{"containerId":"`,
	})
	removed, err := collecting(filepath.Join(root, "results")).collect([]string{filepath.Join(root, "run"), filepath.Join(root, "var"), filepath.Join(root, "none")})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`results/boxrun-sbr0-%d-eth0
results/half-written-eth0
results/podman-app-%d-eth0
results/podman-f6d0b7c0aa57-eth0
run/boxrun-sbr0/10.22.0.2
run/boxrun-sbr0/last_reserved_ip.0
run/boxrun-sbr0/lock
var/bridge/10.22.0.5
var/bridge/10.22.0.6
var/podman/10.88.0.2
var/podman/10.88.0.3
var/podman/10.88.0.4/a-directory`, alive, dead)
	if got := tree(t, root); got != want {
		t.Errorf("left:\n%s\nwant:\n%s", got, want)
	}
	wantRemoved := fmt.Sprintf(`run/boxrun-sbr0/10.22.0.3
var/10.22.0.7
var/bridge/10.22.0.4
var/bridge/fd00::2
results/boxrun-sbr0-%d-eth0
results/my-net-%d-eth1`, dead, dead)
	if got := strings.ReplaceAll(strings.Join(removed, "\n"), root+"/", ""); got != wantRemoved {
		t.Errorf("said to have removed:\n%s\nwant:\n%s", got, wantRemoved)
	}
	if again, err := collecting(filepath.Join(root, "results")).collect([]string{filepath.Join(root, "run"), filepath.Join(root, "var")}); len(again) > 0 || err != nil {
		t.Errorf("the second time: %v, %v", again, err)
	}
}

func TestCollectLeasesOfReusedPID(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	// One process has the pid of a dead box; the other is a box whose lease seems older than it is, because the clock
	// was set forward after the start.
	reused, _ := nstest.Sleeper(t)
	box, _ := nstest.Sleeper(t, "unshare", "-n", "sh", "-c", "ip link set lo up; ip addr add 10.22.0.3/32 dev lo; exec sleep 60")
	nstest.WaitFor(t, func() bool {
		holds, err := holdsAddr(box, netip.MustParseAddr("10.22.0.3"))
		return holds && err == nil
	})
	root := nstest.Root(t, map[string]string{
		"boxrun-sbr0/10.22.0.2": nstest.Lease(reused),
		"boxrun-sbr0/10.22.0.3": nstest.Lease(box),
		"boxrun-sbr0/10.22.0.4": nstest.Lease(reused), // written after the process started: its own
	})
	past := time.Now().Add(-time.Hour)
	for _, addr := range []string{"10.22.0.2", "10.22.0.3"} {
		if err := os.Chtimes(filepath.Join(root, "boxrun-sbr0", addr), past, past); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := collecting(filepath.Join(root, "none")).collect([]string{root}); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, root), "boxrun-sbr0/10.22.0.3\nboxrun-sbr0/10.22.0.4"; got != want {
		t.Errorf("left:\n%s\nwant:\n%s", got, want)
	}
}

func TestCollectLeasesWaitsForTheLock(t *testing.T) {
	t.Parallel()
	dead := nstest.Lease(deadPID(t))
	root := nstest.Root(t, map[string]string{"net/10.22.0.2": dead, "net/lock": ""})
	lock, err := os.Open(filepath.Join(root, "net/lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	_, err = collecting(filepath.Join(root, "none")).collect([]string{root})
	want := fmt.Sprintf("locking leases with %s/net/lock: resource temporarily unavailable", root)
	if got := fmt.Sprint(err); got != want {
		t.Errorf("while it is held:\ngot  %s\nwant %s", got, want)
	}

	// The holder gives the address to a living process and lets go: the lease must stay.
	alive, _ := nstest.Sleeper(t)
	time.AfterFunc(lockWait/6, func() {
		_ = os.WriteFile(filepath.Join(root, "net/10.22.0.2"), []byte(nstest.Lease(alive)), 0o644)
		lock.Close()
	})
	removed, err := collecting(filepath.Join(root, "none")).collect([]string{root})
	if len(removed) > 0 || err != nil {
		t.Errorf("given to another meanwhile: removed %v, %v", removed, err)
	}
}

func TestCollectLeasesWhileTheyVanish(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dead := nstest.Lease(deadPID(t))
	done := make(chan struct{})
	var plugin sync.WaitGroup
	plugin.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			dir := filepath.Join(root, fmt.Sprintf("net%d", i%3))
			_ = os.MkdirAll(dir, 0o755)
			_ = os.WriteFile(filepath.Join(dir, "10.22.0.2"), []byte(dead), 0o644)
			_ = os.WriteFile(filepath.Join(dir, "10.22.0.3"), []byte(dead), 0o644)
			_ = os.RemoveAll(dir)
		}
	})
	for deadline := time.Now().Add(time.Second / 2); time.Now().Before(deadline); {
		if _, err := collecting(filepath.Join(root, "none")).collect([]string{root}); err != nil {
			t.Fatal(err)
		}
		if _, err := Stale(root); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	plugin.Wait()
}

func TestProcessStart(t *testing.T) {
	before := time.Now()
	// A name may hold what looks like the end of it.
	odd := filepath.Join(t.TempDir(), "a) R 1 (b")
	if err := os.Symlink("/bin/sleep", odd); err != nil {
		t.Fatal(err)
	}
	pid, _ := nstest.Sleeper(t, odd, "600")
	started, err := processStart(pid)
	if err != nil {
		t.Fatal(err)
	}
	if off := started.Sub(before); off < -time.Second/10 || off > time.Minute {
		t.Errorf("started %v after the test asked for it, want 0s or a little more", off)
	}
	_, err = processStart(deadPID(t))
	if !os.IsNotExist(err) {
		t.Errorf("of a dead process: got %v, want one that does not exist", err)
	}
}
