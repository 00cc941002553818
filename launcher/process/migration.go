package process

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The kernel has a process wait for an RCU grace period before it moves into another cgroup, unless another process
// has moved a moment ago (rcu_sync in cgroup_attach_lock; the option favordynmods of cgroup2 would spare all moves the
// wait, for the whole host). That is 11 ms on an idle machine, and the start of a box has ten such moves, most of them
// one after the other, and the stop a few: systemd moves each process that it starts.

// movesEvery is shorter than a grace period. A move within the grace period after the last does not wait.
const movesEvery = 4 * time.Millisecond

// QuickMoves keeps moves between cgroups quick for all starts of this process.
type QuickMoves struct {
	kept atomic.Bool // a goroutine keeps them quick: one is enough
}

// Keep has the kernel move processes between cgroups without a wait, until end is called or most has passed. Meanwhile a
// goroutine moves this process again and again into the cgroup that the process is in, which changes nothing. Where that
// is impossible, moves take as long as ever. While an earlier Keep lasts, another does nothing.
func (q *QuickMoves) Keep(most time.Duration) (end func()) {
	if !q.kept.CompareAndSwap(false, true) {
		return func() {}
	}
	ended := time.NewTimer(most)
	go func() {
		defer q.kept.Store(false)
		keepMoving(ended.C)
	}()
	return func() { ended.Reset(0) }
}

// keepMoving moves this process into its own cgroup until a value arrives.
func keepMoving(ended <-chan time.Time) {
	procs, err := ownProcs()
	if err != nil {
		return
	}
	defer procs.Close()
	tick := time.NewTicker(movesEvery)
	defer tick.Stop()
	for {
		if _, err := procs.WriteString("0"); err != nil { // 0 is the process that writes, see cgroups(7)
			return
		}
		select {
		case <-ended:
			return
		case <-tick.C:
		}
	}
}

// ownProcs opens the list of processes in this process's own cgroup, to write to. A cgroup namespace can make the path of
// the own cgroup lead to another: without this process in the list the error is fs.ErrNotExist.
func ownProcs() (*os.File, error) {
	own, err := CgroupPath(os.Getpid())
	if err != nil {
		return nil, err
	}
	path := filepath.Join(CgroupMount(), own, "cgroup.procs")
	list, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(strings.Fields(string(list)), strconv.Itoa(os.Getpid())) {
		return nil, fs.ErrNotExist
	}
	return os.OpenFile(path, os.O_WRONLY, 0)
}
