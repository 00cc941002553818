package watch

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// leaveStart gives back the pages of the program's file that only the start has used: they count as memory of the
// process, and an idle watch needs few of them. The kernel reads a page from the file again when it is needed
// (MADV_DONTNEED of a file mapping that nobody writes, madvise(2)).
func leaveStart() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil {
			return fmt.Errorf("reading the maps of this process: %w", err)
		}
		if !strings.HasSuffix(strings.TrimSpace(line), " "+exe) || strings.Contains(rights, "w") {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return os.NewSyscallError("madvise", errno)
		}
	}
	return nil
}

// rest gives back what a repair has used, and keeps Go's collector from waking up every two minutes while nothing happens
// (forcegcperiod in package runtime). The collector works again when changes that matter to nobody have used a little memory.
func rest() {
	const little = 1 << 20
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.SetMemoryLimit(int64(m.Sys-m.HeapReleased) + little)
	debug.SetGCPercent(-1)
}
