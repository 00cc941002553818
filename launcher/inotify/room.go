package inotify

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// limitFile has the number of instances that each user may have, 128 on most kernels.
const limitFile = "/proc/sys/fs/inotify/max_user_instances"

// raised is the limit that "boxrun host setup" sets.
const raised = 1024

// perBox is how many instances a booted systemd with its usual services has, and hostShare how many a host has without
// boxes.
const (
	perBox    = 8
	hostShare = 64
)

// Room is how many instances root has, and may have.
type Room struct {
	Taken, Limit int

	Short bool   // the kernel refuses what a box needs
	Most  string // the process with the most instances, where a box has far fewer: "python3 (pid 812) has 900"
}

// Tight reports whether another box may lack instances.
func (r Room) Tight() bool { return r.Short || r.Taken+perBox > r.Limit }

// Fix is the command by which root gets more instances.
func (r Room) Fix() string {
	if r.Limit < raised {
		return "boxrun host setup"
	}
	return fmt.Sprintf("sysctl -w fs.inotify.max_user_instances=%d", 2*r.Limit)
}

// Hint says how root gets more instances, for good.
func (r Room) Hint() string {
	if r.Limit < raised {
		return "\"" + r.Fix() + "\" raises it, for this boot and those to come"
	}
	return r.Fix() + ", and that line in /etc/sysctl.d/91-inotify.conf for the boots to come"
}

// String says what is taken, and by whom.
func (r Room) String() string {
	text := fmt.Sprintf("%d of root's %d inotify instances are taken", r.Taken, r.Limit)
	if r.Most != "" {
		text += ", " + r.Most
	}
	return text
}

// Look counts the instances in all processes of root. Inherited ones count in each process.
func Look() (Room, error) {
	limit, err := limit()
	r := taken()
	r.Limit, r.Short = limit, !hasFree(perBox)
	return r, err
}

// LookFor is Look for a start. With enough to be had for another box LookFor counts nothing, and looks at no process: the
// result is not tight. A limit below the share of a host without boxes is always counted.
func LookFor() (Room, error) {
	limit, err := limit()
	if err != nil || limit >= hostShare && hasFree(perBox) {
		return Room{Limit: max(limit, perBox)}, err
	}
	return Look()
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
func taken() (r Room) {
	processes, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	most := 2 * perBox
	for _, process := range processes {
		var s syscall.Stat_t
		if syscall.Stat(process, &s) != nil || s.Uid != 0 {
			continue
		}
		n := takenBy(process)
		if r.Taken += n; n > most {
			name, _ := os.ReadFile(filepath.Join(process, "comm"))
			most, r.Most = n, fmt.Sprintf("%s (pid %s) has %d", strings.TrimSpace(string(name)), filepath.Base(process), n)
		}
	}
	return r
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
