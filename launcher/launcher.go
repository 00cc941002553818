package launcher

import (
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
)

// Launcher starts and stops boxes and keeps its records of boxes below Dir. Several processes may call its methods at
// once: each method takes the lock of its box.
type Launcher struct {
	*box.Store
	Live func(string) // shows the line of a step that takes long; "" when the step is over

	moves process.QuickMoves
}

// manyMoves is how long the start or the stop of a box has many processes move between cgroups, at most.
const manyMoves = 5 * time.Second
