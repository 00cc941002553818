package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/fault"
	"boxrun/profiles"
)

// A Device is a device for a confined box.
type Device struct {
	Kind         string // c | b
	Major, Minor uint32 // Minor anyMinor: all of the major number
}

const anyMinor = math.MaxUint32

// ownDevices returns the devices of every box: the harmless ones, and terminals. Block device 0:0 is no device: systemd
// makes a node of this number for paths out of a unit's reach.
func ownDevices() []Device {
	return []Device{
		{"c", 1, 3}, {"c", 1, 5}, {"c", 1, 7}, {"c", 1, 8}, {"c", 1, 9}, // null, zero, full, random, urandom
		{"c", 5, 0}, {"c", 5, 2}, {"c", 136, anyMinor}, // tty, ptmx, pts/*
		{"b", 0, 0},
	}
}

// LookDevices looks up the devices of the host for a confined box, by the profile: by [security], by a bind below
// /dev, or by a flag for graphics cards. The error is ErrRefused for each path of [security] without a device.
func LookDevices(p profiles.Profile) ([]Device, error) {
	if !p.Security.Confined() {
		return nil, nil
	}
	var found []Device
	var errs []error
	for _, path := range p.Security.Devices {
		devices, err := devicesAt(path)
		if len(devices) == 0 && err == nil {
			err = errors.New("is no device")
		}
		if err != nil {
			errs = append(errs, fault.Refused("take the path out, or load the driver",
				"%s: security.devices: %s: %v", p.File, path, err))
		}
		found = append(found, devices...)
	}
	for _, path := range otherPaths(p) {
		devices, _ := devicesAt(path) // whether the path is there is another check's to say
		found = append(found, devices...)
	}
	return found, errors.Join(errs...)
}

// otherPaths returns the paths of devices for the box by other keys than [security].
func otherPaths(p profiles.Profile) []string {
	var paths []string
	for _, b := range p.Storage.Binds {
		if strings.HasPrefix(b.Target, "/dev/") {
			paths = append(paths, b.Source)
		}
	}
	for flag, patterns := range map[string][]string{"--nv": {"/dev/nvidia*"}, "--rocm": {"/dev/kfd", "/dev/dri"}} {
		if !slices.Contains(p.Apptainer.Args, flag) {
			continue
		}
		for _, pattern := range patterns {
			found, _ := filepath.Glob(pattern) // the patterns are well-formed
			paths = append(paths, found...)
		}
	}
	slices.Sort(paths)
	return paths
}

// devicesAt returns the device of a path, or the devices in a directory.
func devicesAt(path string) ([]Device, error) {
	var found []Device
	err := filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		var stat unix.Stat_t
		if err == nil {
			err = unix.Stat(path, &stat)
		}
		if err != nil {
			return err
		}
		d := Device{Major: unix.Major(uint64(stat.Rdev)), Minor: unix.Minor(uint64(stat.Rdev))}
		switch stat.Mode & unix.S_IFMT {
		case unix.S_IFCHR:
			d.Kind = "c"
		case unix.S_IFBLK:
			d.Kind = "b"
		default:
			return nil
		}
		found = append(found, d)
		return nil
	})
	var failed *os.PathError
	if errors.As(err, &failed) {
		err = failed.Err // the caller names the path
	}
	return found, err
}

// cgroup returns the rules of the box's cgroup, in the format of Apptainer's --apply-cgroups: the limits, and the
// devices to allow.
func cgroup(r profiles.Resources, devices []Device) string {
	var b strings.Builder
	b.WriteString("devices = [\n  {allow = false, access = \"rwm\"},\n")
	for _, d := range append(ownDevices(), devices...) {
		fmt.Fprintf(&b, "  {allow = true, access = \"rwm\", type = %q, major = %d", d.Kind, d.Major)
		if d.Minor != anyMinor {
			fmt.Fprintf(&b, ", minor = %d", d.Minor)
		}
		b.WriteString("},\n")
	}
	b.WriteString("]\n")
	if r.Memory > 0 { // memory and swap are counted together: with both equal, no swap is left
		fmt.Fprintf(&b, "\n[memory]\nlimit = %d\nswap = %d\n", r.Memory, r.Memory)
	}
	if r.CPUs > 0 {
		const period = 100_000 // microseconds, the kernel's and systemd's usual period
		fmt.Fprintf(&b, "\n[cpu]\nperiod = %d\nquota = %.0f\n", period, r.CPUs*period)
	}
	if r.PIDs > 0 {
		fmt.Fprintf(&b, "\n[pids]\nlimit = %d\n", r.PIDs)
	}
	return b.String()
}
