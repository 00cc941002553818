package profiles

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// The levels of a box's confinement. Package confine says what each level closes.
const (
	DefaultLevel = "default" // what the sandboxing of systemd's units needs is left, the rest of the host is closed
	StrictLevel  = "strict"  // no CAP_SYS_ADMIN: units run without sandboxes of their own
	HostLevel    = "host"    // root in the box is root of the host
)

// Confined reports whether the box is held apart from the host.
func (s Security) Confined() bool { return s.Level == DefaultLevel || s.Level == StrictLevel }

// String returns the level, and what is added to the level. A box started by an older boxrun has no level.
func (s Security) String() string {
	text := s.Level
	if text == "" {
		text = HostLevel
	}
	for _, added := range append(slices.Clone(s.Capabilities), s.Devices...) {
		text += " +" + added
	}
	return text
}

// decode reads [security].
func (s *Security) decode(t *section) {
	take(t, "level", &s.Level, text(choice(DefaultLevel, StrictLevel, HostLevel)))
	take(t, "capabilities", &s.Capabilities, texts(capability))
	take(t, "devices", &s.Devices, texts(device))
	if s.Level == HostLevel && len(s.Capabilities) > 0 {
		t.refuse("capabilities", "are to add to another level: level = \"host\" has them all")
	}
}

// capability reads the name of a capability.
func capability(s string) (string, error) {
	if slices.Contains(Capabilities(), s) {
		return s, nil
	}
	if near := nearest(s, Capabilities()); near != "" {
		return "", fmt.Errorf("is no capability, did you mean %q?", near)
	}
	return "", errors.New("must be a capability such as \"CAP_SYS_PTRACE\" (see capabilities(7))")
}

// device reads the path of a device of the host. Apptainer's --bind splits at colons and commas.
func device(s string) (string, error) {
	path := filepath.Clean(s)
	if !below(path, "/dev") || path == "/dev" || strings.ContainsAny(s, ",:\\\n\t") {
		return "", errors.New("must be a device or directory below /dev, such as \"/dev/fuse\"")
	}
	return path, nil
}

// Capabilities returns the kernel's capabilities by number (include/uapi/linux/capability.h).
func Capabilities() []string {
	names := strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
		NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE
		SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL
		SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)
	for i := range names {
		names[i] = "CAP_" + names[i]
	}
	return names
}
