package confine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/files"
	"boxrun/profiles"
)

// The files for Apptainer at the start of a confined box, in the directory of the box.
const (
	seccompFile = "seccomp.json"
	cgroupFile  = "cgroup.toml"
)

// Files returns the files for the start of a confined box, in dir; no files for a box at the level host.
func Files(p profiles.Profile, devices []Device, dir string) files.Set {
	if !p.Security.Confined() {
		return files.Set{}
	}
	return files.Set{Doing: "writing the confinement of the box", Files: []files.File{
		{Path: filepath.Join(dir, seccompFile), Content: seccomp(p.Security.Capabilities), Mode: 0o644},
		{Path: filepath.Join(dir, cgroupFile), Content: cgroup(p.Resources, devices), Mode: 0o644},
	}}
}

// Flags returns Apptainer's flags for the start of a confined box with Files in dir. exe is boxrun's own executable, to
// be bound over the image's init; "": boxrun is the image's init as well. The bind comes after the binds of the profile,
// because a bind of the profile may bring the init.
func Flags(p profiles.Profile, dir, exe string) []string {
	if !p.Security.Confined() {
		return nil
	}
	flags := []string{
		"--security", "seccomp:" + filepath.Join(dir, seccompFile),
		"--apply-cgroups", filepath.Join(dir, cgroupFile),
	}
	if exe != "" {
		flags = append(flags, "--bind", exe+":"+initPath+":ro")
	}
	return flags
}

// denied is system calls a confined box must not make. The capability, added to the level, allows the calls; ""
// for no capability.
type denied struct{ capability, calls string }

// deniedCalls lists calls reaching past the box whatever the capabilities are, or where CAP_SYS_ADMIN stands in for the
// capability. All other calls are allowed: of an unknown call a program learns of a kernel without the call
// (ENOSYS), and takes another.
func deniedCalls() []denied {
	return []denied{
		{"", "_sysctl add_key kcmp keyctl lookup_dcookie nfsservctl request_key swapoff swapon uselib userfaultfd " +
			"vm86 vm86old"},
		{"CAP_BPF", "bpf"},
		{"CAP_DAC_READ_SEARCH", "open_by_handle_at"},
		{"CAP_PERFMON", "perf_event_open"},
		{"CAP_SYS_BOOT", "kexec_file_load kexec_load"},
		{"CAP_SYS_MODULE", "create_module delete_module finit_module get_kernel_syms init_module query_module"},
		{"CAP_SYS_PACCT", "acct"},
		{"CAP_SYS_RAWIO", "ioperm iopl pciconfig_iobase pciconfig_read pciconfig_write"},
		{"CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"},
		{"CAP_SYSLOG", "syslog"},
	}
}

// seccomp returns the filter of system calls, in the format of OCI runtimes. Denied calls fail with EPERM.
func seccomp(added []string) string {
	var rules []string
	for _, d := range deniedCalls() {
		if !slices.Contains(added, d.capability) {
			names := strings.Join(strings.Fields(d.calls), `", "`)
			rules = append(rules, fmt.Sprintf("    {\"action\": \"SCMP_ACT_ERRNO\", \"names\": [\"%s\"]}", names))
		}
	}
	return `{
  "defaultAction": "SCMP_ACT_ALLOW",
  "archMap": [
    {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]}
  ],
  "syscalls": [
` + strings.Join(rules, ",\n") + "\n  ]\n}\n"
}
