package process

import (
	"os"
	"runtime"
)

// OneProcessor has this process run on one processor at a time. Work on a few boxes waits for the kernel and for other
// programs most of its time, and threads that look for work on all processors meanwhile cost a tenth of it. A GOMAXPROCS in
// the environment holds as always.
func OneProcessor() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

// Processors takes OneProcessor back where n boxes are so many that processors can share the work.
func Processors(n int) {
	const many = 8
	if n >= many && os.Getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS()
	}
}
