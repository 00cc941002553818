package process

import (
	"os"
	"runtime/debug"
	"time"
)

// CollectLate has this process leave its garbage alone for a second. Work on a few boxes is done by then, and all memory
// goes with the process. A GOGC in the environment holds as always.
func CollectLate() {
	const usual = 100
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(4 * usual)
	time.AfterFunc(time.Second, func() { debug.SetGCPercent(usual) })
}
