package watch

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
	"boxrun/netsetup/small"
)

// authors are the programs with changes since the last repair, as far as the kernel tells. The programs of a repair itself are none.
type authors struct {
	mu        sync.Mutex
	of        map[string]string // by program
	repairing bool
}

// An author is a program with its origin, a program and a unit of systemd: "bash of site.service"; "" for unknown.
type author struct{ program, of string }

// authorOf looks at a process. The author is zero for 0, and for a process no more there.
func authorOf(pid int) author {
	comm, err := small.Read(process.ProcFile(pid, "comm"))
	if pid == 0 || err != nil {
		return author{}
	}
	return author{strings.TrimSpace(string(comm)), startedBy(pid)}
}

// note notes who has made a change, but for boxrun.
func (a *authors) note(who author) {
	a.mu.Lock()
	defer a.mu.Unlock()
	unknown := who.of == "" && a.repairing // a program of the repair, perhaps
	if unknown || who.program == "" || who.program == "boxrun" || strings.HasPrefix(who.of, "boxrun ") {
		return
	}
	if a.of == nil {
		a.of = map[string]string{}
	}
	a.of[who.program] = cmp.Or(who.of, a.of[who.program])
}

// take returns the authors for a repair, as of [undone.Change], and begins anew.
func (a *authors) take() (by []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, program := range slices.Sorted(maps.Keys(a.of)) {
		by = append(by, program+"="+a.of[program])
	}
	a.of, a.repairing = nil, true
	return by
}

// repaired notes changes again.
func (a *authors) repaired() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.repairing = false
}

// startedBy returns what started a process, as in an author.
func startedBy(pid int) string {
	parent, err := process.ParentOf(pid)
	cgroup, cgroupErr := process.CgroupPath(pid)
	if err != nil || cgroupErr != nil {
		return ""
	}
	unit := path.Base(cgroup)
	comm, err := small.Read(process.ProcFile(parent, "comm"))
	if parent <= 1 || err != nil {
		return unit
	}
	return strings.TrimSpace(string(comm)) + " of " + unit
}

// ofRules notes the authors of changes of rules that concern boxes. With the last message of a change the kernel tells the name of
// the process. The process may end meanwhile, so ofRules looks at the first message. A process of a container may have the number
// of another process here, with another name.
func (a *authors) ofRules(concerns func(syscall.NetlinkMessage) bool) func(syscall.NetlinkMessage) bool {
	var first *author
	return func(m syscall.NetlinkMessage) bool {
		if concerns(m) {
			if first == nil {
				seen := authorOf(int(m.Header.Pid))
				first = &seen
			}
			return true
		}
		if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN || len(m.Data) < nl.SizeofNfgenmsg || first == nil {
			return false
		}
		a.note(made(*first, m.Data[nl.SizeofNfgenmsg:]))
		first = nil
		return false
	}
}

// made returns who has made a change of rules, by the attributes of its last message. The number of the process in the message
// counts in the first PID namespace.
func made(first author, attributes []byte) author {
	told, err := nl.ParseRouteAttrAsMap(attributes)
	if err != nil {
		return author{}
	}
	name, _, _ := bytes.Cut(told[unix.NFTA_GEN_PROC_NAME].Value, []byte{0})
	if first.program == string(name) {
		return first
	}
	if pid := told[unix.NFTA_GEN_PROC_PID].Value; len(pid) == 4 {
		if who := authorOf(int(binary.BigEndian.Uint32(pid))); who.program == string(name) {
			return who
		}
	}
	return author{program: string(name)}
}
