package inotify

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitFile has the number of instances that each user may have, 128 on most kernels.
const limitFile = "/proc/sys/fs/inotify/max_user_instances"

// Hint says how to get more instances.
const Hint = "\"boxrun host setup\" raises it, for this boot and those to come"

// perBox is how many instances a booted systemd with its usual services has, and hostShare how many a host has without
// boxes.
const (
	perBox    = 8
	hostShare = 64
)

// Room is how many instances root has, and may have.
type Room struct{ Taken, Limit int }

// Tight reports whether another box may lack instances.
func (r Room) Tight() bool { return r.Taken+perBox > r.Limit }

// Look counts the instances in all processes of root. Inherited ones count in each process.
func Look() (Room, error) {
	limit, err := limit()
	return Room{Taken: taken(), Limit: limit}, err
}

// LookFor is Look where so many boxes may have used the instances up. With room for all of these boxes, or where another
// box's instances are to be had, LookFor counts nothing, and no process is looked at: the result is not tight. A limit below
// the share of a host without boxes is always counted.
func LookFor(boxes int) (Room, error) {
	limit, err := limit()
	if err != nil || limit >= hostShare+perBox*(boxes+1) || limit >= hostShare && hasFree(perBox) {
		return Room{Limit: max(limit, perBox)}, err
	}
	return Room{Taken: taken(), Limit: limit}, nil
}

// hasFree reports whether so many instances are to be had: it takes them, and gives them back.
func hasFree(instances int) bool {
	for range instances {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			return false
		}
		defer unix.Close(fd)
	}
	return true
}

func limit() (int, error) {
	text, err := os.ReadFile(limitFile)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// taken counts in the processes that are there. A process that ends meanwhile has none.
func taken() (n int) {
	processes, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, process := range processes {
		var s syscall.Stat_t
		if syscall.Stat(process, &s) == nil && s.Uid == 0 {
			n += takenBy(process)
		}
	}
	return n
}

func takenBy(process string) (n int) {
	files, _ := os.ReadDir(filepath.Join(process, "fd"))
	for _, file := range files {
		if target, _ := os.Readlink(filepath.Join(process, "fd", file.Name())); target == "anon_inode:inotify" {
			n++
		}
	}
	return n
}
