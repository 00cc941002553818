package netsetup

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Overruled returns a line, with file and number, for each setting of the setup's sysctl file that another file takes
// back at every boot, as systemd-sysctl reads the other file later. Without a sysctl file of boxrun's there are no
// lines. Root is "/".
//
// By sysctl.d(5) files are read in the order of their names, in whatever directory, and a file hides files of the same
// name in later directories. A pattern, "net.ipv4.conf.*.rp_filter", does not change what some file sets by name.
func Overruled(root string) ([]string, error) {
	own := filepath.Join(root, "etc", sysctlFile)
	wanted, err := readSettings(own)
	if err != nil {
		return nil, ignoreAbsent(err)
	}
	files, err := sysctlFiles(root)
	if err != nil {
		return nil, err
	}
	last := map[string]placed{}
	for _, file := range files {
		if filepath.Base(file) <= filepath.Base(own) {
			continue
		}
		settings, err := readSettings(file)
		if ignore(err, fs.ErrNotExist, unix.EISDIR) != nil { // neither is read at boot
			return nil, err
		}
		for _, s := range settings {
			last[s.Key] = s
		}
	}
	var lines []string
	for _, w := range wanted {
		if s, ok := last[w.Key]; ok && undoes(s.Setting, w.Value) {
			lines = append(lines, fmt.Sprintf("%s sets %s to %s at every boot, after %s", s.where, s.Key, s.Value, own))
		}
	}
	return lines, nil
}

// undoes reports whether another value than boxrun's does harm: of reverse path filtering only the strict value.
func undoes(s Setting, ours string) bool {
	if strings.HasSuffix(s.Key, ".rp_filter") {
		return s.Value == "1"
	}
	return s.Value != ours
}

// sysctlFiles returns the files systemd-sysctl reads, in its order.
func sysctlFiles(root string) ([]string, error) {
	byName := map[string]string{}
	for _, dir := range []string{"etc", "run", "usr/local/lib", "usr/lib"} {
		found, err := filepath.Glob(filepath.Join(root, dir, "sysctl.d/*.conf"))
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

// placed is a setting and its line: FILE:NUMBER.
type placed struct {
	Setting
	where string
}

// readSettings reads a file of sysctl.d(5). Keys come with dots. Forwarding on all devices comes as
// net.ipv4.ip_forward, its other name.
func readSettings(file string) ([]placed, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var settings []placed
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimPrefix(strings.TrimSpace(key), "-")
		if !ok || strings.HasPrefix(key, "#") || strings.HasPrefix(key, ";") {
			continue
		}
		key = keyOf(procSys(key))
		if key == "net.ipv4.conf.all.forwarding" {
			key = "net.ipv4.ip_forward"
		}
		settings = append(settings, placed{Setting{key, strings.TrimSpace(value)}, fmt.Sprintf("%s:%d", file, number)})
	}
	return settings, nil
}
