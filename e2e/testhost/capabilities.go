package testhost

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// lowerCapabilities has the Apptainer of a root ask for no more capabilities than the machine has: it asks for all of them
// and gives up where the machine lacks one, as some virtual machines and most containers do. Where none lacks, nothing is changed.
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

// letBuild puts a wrapper of Apptainer's build on a machine that lacks a capability. In a user namespace there are all;
// but no device can be made in one, which debootstrap does without in what it takes for a container of Docker.
const letBuild = `
case $(grep CapBnd: /proc/self/status) in *1ffffffffff) exit;; esac
touch /.dockerenv
cat > /usr/local/bin/apptainer <<'END'
#!/bin/bash
[ "$1" = build ] || exec -a apptainer /usr/bin/apptainer "$@"
exec unshare --user --mount --map-users=0,0,65536 --map-groups=0,0,65536 --setuid 0 --setgid 0 /usr/bin/apptainer "$@"
END
chmod 755 /usr/local/bin/apptainer`

// LetBuild has the host's Apptainer build also on a machine that lacks a capability: the scripts of a definition get all
// that there are, or it gives up, whatever its configuration says.
func (h *Host) LetBuild(ctx context.Context) error {
	r, err := h.Exec(ctx, "sh", "-ec", letBuild)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("wrapping apptainer build of %s: %v", h.name, r)
	}
	return err
}

// boundingSet gives the capabilities that a process of this machine can have at most.
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
