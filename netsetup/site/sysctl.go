package site

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Overruled returns a line, with file and number, for each setting of boxrun's own sysctl file that another file takes
// back at every boot, as systemd-sysctl reads the other file later. Without a file of boxrun's there are no lines. Root
// is "/".
//
// By sysctl.d(5) files are read in the order of their names, in whatever directory, and a file hides files of the same
// name in later directories. A pattern, "net.ipv4.conf.*.rp_filter", does not change what some file sets by name.
func Overruled(root, own string) ([]string, error) {
	own = filepath.Join(root, own)
	wanted, err := readSettings(own)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files, err := filesOf(root, "sysctl.d", ".conf")
	if err != nil {
		return nil, err
	}
	later := slices.DeleteFunc(files, func(file string) bool { return filepath.Base(file) <= filepath.Base(own) })
	last, err := lastSettings(later)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, w := range wanted {
		if s, ok := last[w.key]; ok && undoes(s, w.value) {
			lines = append(lines, fmt.Sprintf("%s sets %s to %s at every boot, after %s", s.where, w.key, s.value, own))
		}
	}
	return lines, nil
}

// undoes reports whether another value than boxrun's does harm: of reverse path filtering only the strict value.
func undoes(s setting, ours string) bool {
	if strings.HasSuffix(s.key, ".rp_filter") {
		return s.value == "1"
	}
	return s.value != ours
}

// lastSettings returns the setting in force for each key after all files were read. A file that cannot be read at boot
// either counts for nothing.
func lastSettings(files []string) (map[string]setting, error) {
	last := map[string]setting{}
	for _, file := range files {
		settings, err := readSettings(file)
		if err != nil && !unread(err) {
			return nil, err
		}
		for _, s := range settings {
			last[s.key] = s
		}
	}
	return last, nil
}

// unread reports whether an error is of a file that cannot be read at boot either.
func unread(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EISDIR) }

// filesOf returns the files with an end in directories of a name, in the order in which systemd and modprobe read them.
func filesOf(root, name, end string) ([]string, error) {
	byName := map[string]string{}
	for _, dir := range []string{"etc", "run", "usr/local/lib", "usr/lib", "lib"} {
		found, err := filepath.Glob(filepath.Join(root, dir, name, "*"+end))
		if err != nil {
			return nil, err
		}
		for _, file := range found {
			if _, hidden := byName[filepath.Base(file)]; !hidden {
				byName[filepath.Base(file)] = file
			}
		}
	}
	byBase := func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) }
	return slices.SortedFunc(maps.Values(byName), byBase), nil
}

// setting is a line of a file.
type setting struct{ key, value, where string } // where is FILE:NUMBER

// readSettings reads a file of sysctl.d(5). Keys come with dots. Forwarding on all devices comes as
// net.ipv4.ip_forward, its other name.
func readSettings(file string) ([]setting, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var settings []setting
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimPrefix(strings.TrimSpace(key), "-")
		if !ok || strings.HasPrefix(key, "#") || strings.HasPrefix(key, ";") {
			continue
		}
		key = Key(key)
		if key == "net.ipv4.conf.all.forwarding" {
			key = "net.ipv4.ip_forward"
		}
		settings = append(settings, setting{key, strings.TrimSpace(value), fmt.Sprintf("%s:%d", file, number)})
	}
	return settings, nil
}

// Key returns a key of sysctl(8) with dots. A dot beside slashes is one of a device's name: then the slashes stay.
func Key(key string) string {
	if strings.Contains(key, ".") {
		return key
	}
	return strings.ReplaceAll(key, "/", ".")
}
