package undone

import (
	"encoding/json"
	"time"
)

// Change is a change of the host, as the watch tells a repair.
type Change struct {
	At time.Time // zero: nobody has heard of a change
	By []string  // the programs, as of Found
}

// Read reads what String returned.
func (c *Change) Read(text string) error { return json.Unmarshal([]byte(text), c) }

// String returns a change as an argument.
func (c Change) String() string {
	text, _ := json.Marshal(c) // a time and texts can be written
	return string(text)
}
