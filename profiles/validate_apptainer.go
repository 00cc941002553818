package profiles

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// decode reads [apptainer]. limited says whether [resources] limits the box, confined whether [security] confines it.
func (a *Apptainer) decode(s *section, limited, confined bool) {
	take(s, "args", &a.Args, texts(passedThrough))
	for i, arg := range a.Args {
		if limited && strings.HasPrefix(arg, "--apply-cgroups=") {
			s.refuse(at("args", i), "must not have --apply-cgroups beside [resources]: Apptainer takes one of the two")
			continue
		}
		flag, value, _ := strings.Cut(arg, "=")
		if confined && (slices.Contains(cgroupFlags(), flag) || flag == "--security" && strings.Contains(value, "seccomp:")) {
			s.refuse(at("args", i), "must not have %s but with security.level = \"host\": boxrun gives Apptainer its own", flag)
		}
	}
}

// cgroupFlags returns the flags about a box's cgroup without a key of [resources]. Beside --apply-cgroups, by which a
// confined box is held off the host's devices, Apptainer ignores these flags without a word.
func cgroupFlags() []string {
	return []string{
		"--apply-cgroups", "--blkio-weight", "--blkio-weight-device", "--cpu-shares", "--cpuset-cpus", "--cpuset-mems",
		"--memory-reservation",
	}
}

// passedThrough checks an argument for "apptainer instance start": a flag, with any value after an =. A value as an
// argument of its own is refused. So is a flag that lacks its value, as the flag would swallow the next of boxrun's own
// arguments.
func passedThrough(arg string) (string, error) {
	switch {
	case strings.ContainsAny(arg, "\n"):
		return "", errors.New("must be a single line")
	case !strings.HasPrefix(arg, "-"):
		return "", errors.New("must begin with -: a flag and its value are one argument, --flag=value")
	case strings.Trim(arg, "-") == "":
		return "", errors.New("must be a flag")
	case strings.HasPrefix(arg, "--"):
		return arg, checkLong(strings.TrimPrefix(arg, "--"))
	}
	return arg, checkShort(arg[1:])
}

// checkLong checks flag or flag=value.
func checkLong(arg string) error {
	name, _, hasValue := strings.Cut(arg, "=")
	f, _ := flagWhere(func(f apptainerFlag) bool { return f.long == name })
	return f.check(hasValue) // Apptainer is to judge a flag of a newer Apptainer
}

// checkShort checks letters as Apptainer reads letters: each is a flag, until a flag takes the rest as its value.
func checkShort(letters string) error {
	for i, letter := range letters {
		f, known := flagWhere(func(f apptainerFlag) bool { return f.short == string(letter) })
		if !known {
			return fmt.Errorf("has -%c, which is no flag of \"apptainer instance start\"", letter)
		}
		rest := letters[i+len(string(letter)):]
		if err := f.check(rest != "" && rest != "="); err != nil {
			return err
		}
		if f.value || strings.HasPrefix(rest, "=") {
			return nil
		}
	}
	return nil
}

// flagWhere returns the flag for which is reports true.
func flagWhere(is func(apptainerFlag) bool) (flag apptainerFlag, known bool) {
	flags := apptainerFlags()
	i := slices.IndexFunc(flags, is)
	if i < 0 {
		return apptainerFlag{}, false
	}
	return flags[i], true
}

// An apptainerFlag is a flag of "apptainer instance start" that must not be passed, needs a value, or has a letter.
type apptainerFlag struct {
	long, short string
	value       bool   // the flag takes a value
	instead     string // why the flag is refused
}

func (f apptainerFlag) check(hasValue bool) error {
	if f.instead != "" {
		return fmt.Errorf("must not have --%s: %s", f.long, f.instead)
	}
	if f.value && !hasValue {
		return fmt.Errorf("must have a value: --%s=VALUE", f.long)
	}
	return nil
}

// apptainerFlags lists the flags of Apptainer 1.4.5 ("apptainer instance start --help") that need a check.
func apptainerFlags() []apptainerFlag {
	const (
		network = "set the keys of [network]"
		root    = "set storage.root"
		boot    = "a booted box is contained already"
		env     = "it would take away the variable that tells systemd it is in a container"
		uid0    = "booting needs real root"
	)
	return []apptainerFlag{
		// set by boxrun
		{long: "boot", instead: "boxrun sets it"},
		{long: "net", short: "n", instead: network},
		{long: "network", instead: network},
		{long: "network-args", instead: network},
		{long: "netns-path", instead: network},
		{long: "dns", instead: "set network.dns"},
		{long: "hostname", instead: "set hostname"},
		{long: "bind", short: "B", instead: "set storage.binds"},
		{long: "overlay", short: "o", instead: root},
		{long: "writable", short: "w", instead: root},
		{long: "writable-tmpfs", instead: root},
		{long: "home", short: "H", instead: "boxrun keeps the image's own /root"},
		{long: "no-home", instead: "boxrun sets it"},
		{long: "pid-file", instead: "boxrun sets what its unit needs"},
		{long: "config", instead: "boxrun sets it"},
		{long: "memory", instead: "set resources.memory"},
		{long: "memory-swap", instead: "set resources.memory"},
		{long: "cpus", instead: "set resources.cpus"},
		{long: "pids-limit", instead: "set resources.pids"},

		// not working with --boot, or undoing it
		{long: "contain", short: "c", instead: boot},
		{long: "containall", short: "C", instead: env},
		{long: "compat", instead: env},
		{long: "cleanenv", short: "e", instead: env},
		{long: "env", instead: "it never reaches the services: set systemd.environment"},
		{long: "env-file", instead: "it never reaches the services: set systemd.environment"},
		{long: "drop-caps", instead: "--boot replaces what it says"},
		{long: "fakeroot", short: "f", instead: uid0},
		{long: "userns", short: "u", instead: uid0},
		{long: "help", short: "h", instead: "it starts nothing"},

		// allowed
		{long: "ipc", short: "i"}, {long: "scratch", short: "S", value: true},
		{long: "workdir", short: "W", value: true}, {long: "add-caps", value: true}, {long: "app", value: true},
		{long: "apply-cgroups", value: true}, {long: "authfile", value: true}, {long: "blkio-weight", value: true},
		{long: "blkio-weight-device", value: true}, {long: "cpu-shares", value: true},
		{long: "cpuset-cpus", value: true}, {long: "cpuset-mems", value: true}, {long: "dmtcp-launch", value: true},
		{long: "dmtcp-restart", value: true}, {long: "docker-host", value: true}, {long: "fusemount", value: true},
		{long: "memory-reservation", value: true}, {long: "mount", value: true}, {long: "no-mount", value: true},
		{long: "pem-path", value: true}, {long: "security", value: true},
	}
}
