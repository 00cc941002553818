package e2e

import (
	"slices"
	"strings"
	"testing"
)

// Units with a view of the files of their own begin with a bind of the box's root. That Apptainer makes it unbindable shows
// on kernels before 6.17 alone: here the mount's own words are looked at, in the virtual machine such units are started.
func TestTheRootOfABoxCanBeBound(t *testing.T) {
	h := newHost(t)
	for _, name := range []string{"web", "hello"} {
		h.must("boxrun", "up", name)
		init := strings.TrimSpace(h.must("jq", ".state.init.pid", "/run/boxrun/boxes/"+name+".json"))
		root, _, _ := strings.Cut(h.must("cat", "/proc/"+init+"/mountinfo"), "\n")
		if !strings.Contains(root, " / / rw,") || strings.Contains(root, "unbindable") {
			t.Errorf("%s: got %q, want a root that can be bound", name, root)
		}
	}
	h.must("boxrun", "exec", "web", "--", "systemd-run", "-q", "--wait", "-p", "PrivateTmp=yes", "true")
}

// Nothing that Apptainer binds into a box of its own accord is the host's to write: a box that wrote its time zone would
// change the host's. Files in memory are the box's alone, and those of the kernel are another matter.
func TestNoFileOfTheHostIsTheBoxsToWrite(t *testing.T) {
	h := newHost(t)
	memory := []string{"tmpfs", "ramfs", "proc", "sysfs", "cgroup2", "devpts", "mqueue", "devtmpfs", "hugetlbfs", "fusectl"}
	for _, name := range []string{"web", "hello"} {
		h.must("boxrun", "up", name)
		init := strings.TrimSpace(h.must("jq", ".state.init.pid", "/run/boxrun/boxes/"+name+".json"))
		for _, line := range strings.Split(strings.TrimSpace(h.must("cat", "/proc/"+init+"/mountinfo")), "\n") {
			words := strings.Fields(line) // see proc_pid_mountinfo(5)
			target, options, kind := words[4], strings.Split(words[5], ","), words[slices.Index(words, "-")+1]
			if target != "/" && !slices.Contains(memory, kind) && !slices.Contains(options, "ro") {
				t.Errorf("%s can write %s of the host: %s", name, target, line)
			}
		}
	}
	before := h.sh("readlink -f /etc/localtime; date +%Z")
	h.must("boxrun", "exec", "web", "--", "cp", "--remove-destination", "/usr/share/zoneinfo/Asia/Tokyo", "/etc/localtime")
	if after := h.sh("readlink -f /etc/localtime; date +%Z"); after != before {
		t.Errorf("the host's time zone was %q and is %q", before, after)
	}
	if zone := h.must("boxrun", "exec", "web", "--", "date", "+%Z"); zone != "JST\n" {
		t.Errorf("the box's time zone is %q, want the one that was set in the box", zone)
	}
}
