package profiles

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"boxrun/near"
)

// What names are made of.
const (
	small   = "abcdefghijklmnopqrstuvwxyz0123456789"
	letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + small // and digits
	ofUnits = letters + `:_.\-`
)

// made reports whether s is of characters of first and more, and begins with a character of first. Regular expressions
// would be compiled by every verb, as each reads names.
func made(s, first, more string) bool {
	return s != "" && strings.Contains(first, s[:1]) && strings.Trim(s, first+more) == ""
}

// dotted reports whether s is a host name: labels of RFC 1123.
func dotted(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if !made(label, letters, "-") || strings.HasSuffix(label, "-") || len(label) > 63 {
			return false
		}
	}
	return true
}

// isUnit reports whether s is the name of a unit, with a type of letters.
func isUnit(s string) bool {
	dot := max(0, strings.LastIndexByte(s, '.'))
	name, instance, _ := strings.Cut(s[:dot], "@")
	return made(name, ofUnits, "") && strings.Trim(instance, ofUnits) == "" &&
		made(strings.TrimPrefix(s[dot:], "."), small[:26], "")
}

// boxName returns the name of the box that file makes, NAME or NAME-INSTANCE. An impossible name is refused without a
// line, as the text is not at fault.
func (d *document) boxName(file string) string {
	name := Ref{file, d.instance}.box()
	if err := CheckName(name); err != nil {
		d.refuse("", "the box's name, which is the file's, %v, got %s", err, quoted(name))
	}
	return name
}

// nameOf returns the name of the profile in file.
func nameOf(file string) string {
	return strings.TrimSuffix(filepath.Base(strings.TrimPrefix(file, builtinPrefix)), ".toml")
}

// CheckName refuses names that a box or profile cannot have. The error states the rule. Names become part of host
// names, units, paths and chains. A chain has at most 28 characters, and "BOXRUN-DN-" takes 10.
func CheckName(name string) error {
	const most = 18
	if !made(name, small, "-") || strings.HasSuffix(name, "-") {
		return errors.New("must be a-z and 0-9, with - not at an end")
	}
	if len(name) > most {
		return fmt.Errorf("must be at most %d characters, instance included", most)
	}
	return nil
}

// ruled returns s, or an error with the rule that s breaks: s must be right, with at most most bytes.
func ruled(s string, right bool, most int, rule string) (string, error) {
	if !right || len(s) > most {
		return "", errors.New(rule)
	}
	return s, nil
}

// bridgeName checks the name of a bridge that boxrun makes. The kernel allows 15 characters (IFNAMSIZ).
func bridgeName(s string) (string, error) {
	return ruled(s, made(s, small, "-"), 15,
		"must be a-z, 0-9 and -, beginning with a letter or digit, at most 15 characters")
}

// deviceName checks the name of a device that others made, less strictly than bridgeName. An alternative name may be
// longer than the kernel's 15 characters (ALTIFNAMSIZ).
func deviceName(s string) (string, error) {
	return ruled(s, made(s, letters+"_", ".-"), 127, "must be the name of a network device, at most 127 characters")
}

// hostName checks a host name: RFC 1123, dots included, within the length of Linux (HOST_NAME_MAX). Apptainer refuses
// other names too.
func hostName(s string) (string, error) {
	return ruled(s, dotted(s), 64, "must be a host name: letters, digits, - and ., at most 64 characters")
}

// domainName checks a search domain for resolv.conf.
func domainName(s string) (string, error) {
	_, err := ruled(strings.TrimSuffix(s, "."), dotted(strings.TrimSuffix(s, ".")), 253, "must be a domain name, such as \"example.org\"")
	return s, err
}

// resolverOption checks an option of resolv.conf(5), such as "ndots:2". C libraries pass over an unknown option.
func resolverOption(s string) (string, error) {
	option := regexp.MustCompile(`^[a-z0-9-]{1,40}(:[0-9]{1,6})?$`)
	return ruled(s, option.MatchString(s), 47, "must be a single option of resolv.conf, such as \"ndots:2\" or \"rotate\"")
}

// unitName checks the name of a systemd unit by the rules of systemd.unit(5). A template such as "getty@.service"
// passes.
func unitName(s string) (string, error) {
	if _, err := ruled(s, isUnit(s), 255, "must be the name of a unit, such as \"nginx.service\""); err != nil {
		return "", err
	}
	switch filepath.Ext(s) {
	case ".service", ".socket", ".target", ".mount", ".automount", ".swap", ".timer", ".path", ".slice", ".scope", ".device":
		return s, nil
	}
	return "", errors.New("must end in a type of unit, such as \".service\"")
}

// startedUnit checks the name of a unit that can be active. A template cannot.
func startedUnit(s string) (string, error) {
	if strings.Contains(s, "@.") {
		return "", errors.New("is a template: name an instance of it, such as \"getty@tty1.service\"")
	}
	return unitName(s)
}

// nearest returns the word of words that was probably meant, or "" where none is close enough. At most two letters may
// be wrong, and at most half of the letters.
func nearest(word string, words []string) string { return near.Word(word, words, min(2, len(word)/2)) }

// oneLine refuses text with line breaks.
func oneLine(s string) (string, error) {
	if strings.Contains(s, "\n") {
		return "", errors.New("must be a single line")
	}
	return s, nil
}
