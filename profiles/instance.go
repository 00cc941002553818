package profiles

import (
	"errors"
	"fmt"
	"strings"
)

var errNoInstance = errors.New("has %i, which stands for the instance of a profile started as NAME@INSTANCE")

// expand replaces %i by the instance and %% by a single %, as systemd does in units. Any other letter or digit after a
// % is an error, to keep room for future meanings. A % before anything else stays.
func expand(s, instance string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch next := s[i+1]; {
		case next == '%':
			b.WriteByte('%')
		case next == 'i' && instance == "":
			return "", errNoInstance
		case next == 'i':
			b.WriteString(instance)
		case isAlphanumeric(next):
			return "", fmt.Errorf("has %%%c, where only %%i and %%%% mean something", next)
		default:
			b.WriteString(s[i : i+2])
		}
		i++
	}
	return b.String(), nil
}

// escape undoes expand: expand turns the result back into s.
func escape(s string) string { return strings.ReplaceAll(s, "%", "%%") }

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
