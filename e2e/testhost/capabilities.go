package testhost

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// lowerCapabilities configures the Apptainer of root to ask only for capabilities that the machine has. By default
// Apptainer asks for all capabilities and gives up where the machine lacks any, as some virtual machines and most
// containers do. On a machine with all capabilities nothing is changed.
func lowerCapabilities(root string) error {
	held, err := boundingSet()
	if err != nil {
		return err
	}
	var names []string
	for number, name := range capabilityNames() {
		if held&(1<<number) != 0 {
			names = append(names, "CAP_"+name)
		}
	}
	if len(names) == len(capabilityNames()) {
		return nil
	}
	conf := filepath.Join(root, "etc/apptainer/apptainer.conf")
	text, err := os.ReadFile(conf)
	if err != nil {
		return err
	}
	changed := strings.Replace(string(text), "root default capabilities = full", "root default capabilities = file", 1)
	if changed == string(text) {
		return fmt.Errorf("lowering capabilities: no %q in %s", "root default capabilities = full", conf)
	}
	list, err := json.Marshal(map[string]map[string][]string{"users": {"root": names}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/apptainer/capability.json"), list, 0o644); err != nil {
		return err
	}
	return os.WriteFile(conf, []byte(changed), 0o644)
}

// letBuild installs a wrapper for "apptainer build" on a machine that lacks a capability. A user namespace has all
// capabilities, but no device can be made there. debootstrap does without devices in what looks like a Docker
// container.
const letBuild = `
case $(grep CapBnd: /proc/self/status) in *1ffffffffff) exit;; esac
touch /.dockerenv
cat > /usr/local/bin/apptainer <<'END'
#!/bin/bash
[ "$1" = build ] || exec -a apptainer /usr/bin/apptainer "$@"
exec unshare --user --mount --map-users=0,0,65536 --map-groups=0,0,65536 --setuid 0 --setgid 0 /usr/bin/apptainer "$@"
END
chmod 755 /usr/local/bin/apptainer`

// LetBuild makes "apptainer build" work on the host even if the machine lacks a capability. Without LetBuild, Apptainer
// gives up on such a machine whatever its configuration: the scripts of a definition always get all capabilities.
func (h *Host) LetBuild(ctx context.Context) error {
	r, err := h.Exec(ctx, "sh", "-ec", letBuild)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("wrapping apptainer build of %s: %v", h.name, r)
	}
	return err
}

// boundingSet returns the most capabilities a process of this machine can have, as a bit mask.
func boundingSet() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "\nCapBnd:")
	var set uint64
	if _, err := fmt.Sscanf(rest, "%x", &set); err != nil {
		return 0, fmt.Errorf("reading CapBnd of /proc/self/status: %w", err)
	}
	return set, nil
}

// capabilityNames lists the kernel's capabilities by number (include/uapi/linux/capability.h).
func capabilityNames() []string {
	return strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
		NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE
		SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL
		SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)
}
