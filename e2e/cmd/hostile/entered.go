package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// entering is what Apptainer runs in a box for boxrun.
const entering = "/proc/self/fd/3"

// forged puts this program where Apptainer looks for boxrun.
func forged() error {
	if err := unix.Mount("none", "/proc", "tmpfs", 0, ""); err != nil {
		return err
	}
	return sh("mkdir -p /proc/self/fd /proc/1; cp /usr/local/bin/hostile " + entering +
		"; echo 'CapBnd: 000001ffffffffff' > /proc/1/status")()
}

// playEntered reports, in the place of boxrun, what came along from the host.
func playEntered() {
	var report strings.Builder
	for fd := 3; fd < 1024; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		fmt.Fprintf(&report, "fd %d mode %o flags %o", fd, st.Mode, flags)
		for _, up := range []string{"", "../", "../../../../../../../../"} {
			if _, err := unix.Openat(fd, up+"srv/canary/secret", unix.O_RDONLY, 0); err == nil {
				report.WriteString(" leads to the host")
			}
		}
		report.WriteString("\n")
	}
	var bounds uint64
	for number := range 64 {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(number), 0, 0, 0); err == nil && has == 1 {
			bounds |= 1 << number
		}
	}
	fmt.Fprintf(&report, "capabilities %016x\n", bounds)
	_ = os.WriteFile("/var/entered", []byte(report.String()), 0o600)
}
