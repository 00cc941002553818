package box

import "strings"

// Caller is what runs this boxrun: a person, or the host's systemd. units.ReadCaller reads it, once for a command.
type Caller struct {
	Root    bool
	Unit    string // the boxrun service around this process; "" for none
	MainPID string // of a service being stopped: its main process, "" if that has ended
	Ended   bool   // of a service being stopped: systemd saw the end of the main process
	Halted  bool   // of a service being stopped: the stop came before the service had started
}

// ForEnabled reports whether systemd runs this boxrun for an enabled box, with no person there.
func (c Caller) ForEnabled() bool { return strings.HasPrefix(c.Unit, "boxrun@") }
