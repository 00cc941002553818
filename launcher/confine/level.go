package confine

import (
	"slices"
	"strings"

	"boxrun/profiles"
)

// capabilities returns the capabilities of root in a box with this confinement, as names without CAP_. At the level
// host these are all but the two dropped by Apptainer's --boot.
//
// The level default is systemd-nspawn's, with NET_ADMIN and without SYS_BOOT. The level strict is Podman's, with
// NET_ADMIN and NET_RAW in a network of the box's own.
func capabilities(s profiles.Security, hostNetwork bool) []string {
	var names []string
	switch s.Level {
	case profiles.DefaultLevel:
		names = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
			NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_OWNER SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_NICE SYS_RESOURCE
			SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP`)
	case profiles.StrictLevel:
		names = strings.Fields(`CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW
			SYS_CHROOT SETFCAP`)
		if !hostNetwork {
			names = append(names, "NET_ADMIN")
		}
	default:
		return without(profiles.Capabilities(), "CAP_SYS_BOOT", "CAP_SYS_RAWIO")
	}
	for i := range names {
		names[i] = "CAP_" + names[i]
	}
	return append(names, s.Capabilities...)
}

// without returns the names except gone.
func without(names []string, gone ...string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(gone, name) })
}

// Dropped returns the capabilities for Apptainer to drop from a command on the way into the box, for --drop-caps.
// Apptainer would grant every command all capabilities again (prepareRootCaps), and needs CAP_SYS_ADMIN to load the
// filter of system calls; Follow drops CAP_SYS_ADMIN afterwards.
func Dropped(p profiles.Profile) string {
	kept := append(capabilities(p.Security, sharesNetwork(p)), "CAP_SYS_ADMIN")
	return strings.Join(slices.Sorted(slices.Values(without(profiles.Capabilities(), kept...))), ",")
}

func sharesNetwork(p profiles.Profile) bool { return p.Network.Mode == profiles.HostMode }

// fuseControl mounts the switches by which root cuts file systems of FUSE off, those of the host and of all boxes.
const fuseControl = "sys-fs-fuse-connections.mount"

// UselessUnits returns the units of systemd with nothing to do in a box with this confinement.
func UselessUnits(s profiles.Security) []string {
	switch s.Level {
	case profiles.DefaultLevel:
		return []string{"modprobe@.service", fuseControl}
	case profiles.StrictLevel:
		return []string{"modprobe@.service", "dev-hugepages.mount", fuseControl}
	}
	return nil
}
