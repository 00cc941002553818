package leases

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/small"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Directories of CNI's library and of the host-local plugin, unless told otherwise. The directories are on disk, so
// they outlive a reboot.
const (
	CNI        = "/var/lib/cni/networks" // NETWORK/ADDRESS, content "OWNER\r\nIFNAME"
	cniResults = "/var/lib/cni/results"  // NETWORK-OWNER-IFNAME
)

// maxPID is the kernel's PID_MAX_LIMIT.
const maxPID = 1 << 22

// ReservedBy begins the owners of boxrun's own reservations: no pid, and no container's id.
const ReservedBy = "boxrun:"

// clockMargin is how much later than its lease a process may seem to have started and still be its owner.
const clockMargin = 2 * time.Second

// Collect removes the leases and the cached CNI results of dead owners, and returns the paths of what is
// removed. Leases are left behind when an instance's processes are killed. A stale lease blocks its address, or every
// start with the same pid.
//
// A lease is a file of the host-local plugin, named after an address, in a directory of dirs or in a directory below.
// Apptainer's owners are pids (the box's init), and boxrun's own owners begin with boxrun: (see Reservation). An owner of any
// other form is another runtime's: such leases and results stay. A directory that does not exist counts as empty. Collect
// goes on past errors and returns them joined.
func Collect(dirs ...string) ([]string, error) {
	return collector{results: cniResults, lockWait: time.Second}.collect(dirs)
}

// Stale returns the paths of the leases Collect would remove. It changes nothing.
func Stale(dirs ...string) ([]string, error) {
	found, err := Below(dirs...)
	if err != nil {
		return nil, err
	}
	var stale []string
	for _, l := range found {
		dead, err := l.Dead()
		if err != nil {
			return stale, err
		}
		if dead {
			stale = append(stale, l.Path)
		}
	}
	return stale, nil
}

// collector collects what dead processes left with CNI.
type collector struct {
	results  string        // the directory of cached results
	lockWait time.Duration // for the lock of a lease directory; the plugin holds the lock for milliseconds
}

func (c collector) collect(dirs []string) ([]string, error) {
	leases, err := Below(dirs...)
	errs := []error{err}
	var removed []string
	for _, l := range leases {
		done, err := l.collect(c.lockWait)
		if done {
			removed = append(removed, l.Path)
		}
		errs = append(errs, err)
	}
	cached, err := collectResults(c.results)
	return append(removed, cached...), errors.Join(append(errs, err)...)
}

// collectResults removes the cached results in dir of processes that are gone. Results block nothing, so a result
// whose pid is used again may wait until the next process is gone, too.
func collectResults(dir string) ([]string, error) {
	entries, err := readDir(dir)
	errs := []error{err}
	var removed []string
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		pid, err := resultOwner(path)
		if err == nil && pid > 0 && !Alive(pid) {
			if err = os.Remove(path); err == nil {
				removed = append(removed, path)
			}
		}
		if ignoreGone(err) != nil {
			errs = append(errs, fmt.Errorf("collecting a CNI result: %w", err))
		}
	}
	return removed, errors.Join(errs...)
}

// resultOwner returns the pid a cached result belongs to, or 0 where the owner is no pid or the file is not whole. The
// file's name does not tell: another runtime's name for a container may look like a part of the name.
func resultOwner(path string) (int, error) {
	text, err := small.Read(path)
	if err != nil {
		return 0, err
	}
	var result struct {
		ContainerID string `json:"containerId"`
	}
	if json.Unmarshal(text, &result) != nil {
		return 0, nil
	}
	return PID(result.ContainerID), nil
}

// Lease is a file by which an owner holds an address.
type Lease struct {
	Path string
	Addr netip.Addr
}

// Below returns the leases in dirs and in the directories a level below. What vanishes meanwhile is left out.
func Below(dirs ...string) ([]Lease, error) {
	var leases []Lease
	var errs []error
	look := func(dir string) (below []string) { // the plugin keeps last_reserved_ip.0 and lock beside the leases
		entries, err := readDir(dir)
		errs = append(errs, err)
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			addr, err := netip.ParseAddr(e.Name())
			switch {
			case e.IsDir():
				below = append(below, path)
			case err == nil && e.Type().IsRegular():
				leases = append(leases, Lease{path, addr})
			}
		}
		return below
	}
	for _, dir := range dirs {
		for _, network := range look(dir) {
			look(network)
		}
	}
	return leases, errors.Join(errs...)
}

// readDir lists a directory. A directory that does not exist is empty.
func readDir(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return entries, fmt.Errorf("reading leases: %w", err)
	}
	return entries, nil
}

// collect removes the lease if its owner is dead, and reports whether the lease was removed.
func (l Lease) collect(lockWait time.Duration) (bool, error) {
	if dead, err := l.Dead(); !dead || err != nil {
		return false, err
	}
	unlock, err := Lock(filepath.Dir(l.Path), lockWait)
	if err != nil {
		return false, err
	}
	defer unlock()
	// The address may have been given to the next box before the lock was ours.
	if dead, err := l.Dead(); !dead || err != nil {
		return false, err
	}
	err = os.Remove(l.Path)
	if ignoreGone(err) != nil {
		return false, fmt.Errorf("collecting a lease: %w", err)
	}
	return err == nil, nil
}

// Dead reports whether the owner is certainly gone: no process has its pid, or the process with its pid is younger
// than the lease and does not hold the address. The address counts because every process looks younger after a clock
// was set forward. A lease that is gone has no dead owner.
func (l Lease) Dead() (bool, error) {
	owner, err := l.Owner()
	if strings.HasPrefix(owner, ReservedBy) {
		return l.beforeBoot()
	}
	pid := PID(owner)
	if pid == 0 || err != nil {
		return false, err
	}
	started, err := processStart(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	info, err := os.Stat(l.Path)
	if err != nil {
		return false, ignoreGone(err)
	}
	if !started.After(info.ModTime().Add(clockMargin)) {
		return false, nil
	}
	holds, err := holdsAddr(pid, l.Addr)
	return !holds && err == nil, err
}

// beforeBoot reports whether the lease was written before the host booted: no box of boxrun's outlives a boot.
func (l Lease) beforeBoot() (bool, error) {
	info, err := os.Stat(l.Path)
	if err != nil {
		return false, ignoreGone(err)
	}
	up, err := sinceBoot()
	return err == nil && time.Since(info.ModTime()) > up+clockMargin, err
}

// sinceBoot returns how long the host has been up.
func sinceBoot() (time.Duration, error) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return 0, fmt.Errorf("reading the time since boot: %w", err)
	}
	return time.Duration(up.Nano()), nil
}

// Owner returns the first line of the lease: a pid for Apptainer's, a container's id for others, "" for a lease half
// written or gone.
func (l Lease) Owner() (string, error) {
	text, err := small.Read(l.Path)
	if err != nil {
		return "", ignoreGone(err)
	}
	owner, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(owner), nil
}

// ignoreGone drops the error of a file, or of a process behind a file, that is gone.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// holdsAddr reports whether the network of a process has an address. A process that is gone has no address.
func holdsAddr(pid int, addr netip.Addr) (bool, error) {
	addrs, err := dump.LookInto(pid, func(_ netns.NsHandle, h *netlink.Handle) ([]netlink.Addr, error) {
		return dump.Addrs(h, nil, netlink.FAMILY_ALL)
	})
	if ignoreGone(err) != nil {
		return false, fmt.Errorf("listing the addresses of process %d: %w", pid, err)
	}
	has := func(a netlink.Addr) bool { return dump.PrefixOf(a.IPNet).Addr() == addr }
	return slices.ContainsFunc(addrs, has), nil
}

// Lock takes the lock that host-local takes around each change, and returns the function that lets go. Without a
// lock file nothing has ever been leased there, and there is nobody to keep out.
func Lock(dir string, wait time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("locking leases: %w", err)
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("locking leases with %s: %w", f.Name(), err), f.Close())
		}
	}
}

// PID returns the pid in text, or 0 where text is no pid or not a box's: pid 1 is the host's init.
func PID(text string) int {
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 1 || pid > maxPID || text[0] == '+' {
		return 0
	}
	return pid
}

// Alive reports whether a process, or a zombie not yet waited for, has this pid.
func Alive(pid int) bool {
	return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// processStart returns the start time of a process, by the clock as set now. The error for a process that does not
// exist wraps fs.ErrNotExist.
func processStart(pid int) (time.Time, error) {
	stat, err := small.Read(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, unix.ESRCH) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return time.Time{}, err
	}
	ticks, err := startTicks(string(stat))
	if err != nil {
		return time.Time{}, fmt.Errorf("reading when process %d started: %w", pid, err)
	}
	up, err := sinceBoot()
	return time.Now().Add(time.Duration(ticks)*tick - up), err
}

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on all architectures Go runs on.
const tick = 10 * time.Millisecond

// startTicks returns field 22 of /proc/PID/stat. The second field, the name in brackets, may hold blanks and brackets.
func startTicks(stat string) (int64, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("got %d fields after the name", len(fields))
	}
	return strconv.ParseInt(fields[19], 10, 64)
}

// OwnersOf returns the owners of the leases of an address in dirs and in the directories a level below: a pid for a box
// of Apptainer's, boxrun:NAME for a reservation, a container's id for others.
func OwnersOf(addr netip.Addr, dirs ...string) ([]string, error) {
	found, err := Below(dirs...)
	errs := []error{err}
	var owners []string
	for _, l := range found {
		if l.Addr != addr {
			continue
		}
		owner, err := l.Owner()
		if owner != "" && !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
		errs = append(errs, err)
	}
	return owners, errors.Join(errs...)
}
