package site

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Withheld returns the line that has modprobe load nothing for a module, as FILE:NUMBER and the line, such as
// "/etc/modprobe.d/cis.conf:7: install sctp /bin/true"; "" for none. Root is "/". A module on a blacklist is loaded all the
// same by its name.
func Withheld(root, module string) (string, error) {
	files, err := filesOf(root, "modprobe.d", ".conf")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil && !unread(err) {
			return "", err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if withholds(strings.Fields(line), module) {
				return fmt.Sprintf("%s:%d: %s", strings.TrimPrefix(file, strings.TrimSuffix(root, "/")), i+1, strings.Join(strings.Fields(line), " ")), nil
			}
		}
	}
	return "", nil
}

// withholds reports whether the words of a line have a command in place of the module that loads nothing.
func withholds(words []string, module string) bool {
	if len(words) < 3 || words[0] != "install" || strings.ReplaceAll(words[1], "-", "_") != module {
		return false
	}
	return slices.Contains([]string{"true", "false", ":", "exit"}, filepath.Base(words[2]))
}
