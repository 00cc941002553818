package profiles

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var errNoInstance = errors.New("has %i, which stands for the instance of a profile started as NAME@INSTANCE")

// expand replaces %i by the instance and %% by a single %, as systemd does in units. Any other letter or digit after a
// % is an error, to keep room for future meanings. A % before anything else stays.
func expand(s, instance string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var first error
	full := regexp.MustCompile(`%[%0-9A-Za-z]`).ReplaceAllStringFunc(s, func(sign string) string {
		switch {
		case sign == "%%":
			return "%"
		case sign != "%i":
			first = cmp.Or(first, fmt.Errorf("has %s, where only %%i and %%%% mean something", sign))
		case instance == "":
			first = cmp.Or(first, errNoInstance)
		}
		return instance
	})
	if first != nil {
		return "", first
	}
	return full, nil
}

// escape undoes expand: expand turns the result back into s.
func escape(s string) string { return strings.ReplaceAll(s, "%", "%%") }
