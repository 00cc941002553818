package amount

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Bytes is an amount of memory or of room on a disk, in bytes; 0 means not given.
type Bytes uint64

// units are the units of systemd, each 1024 times the unit before.
const units = "KMGT"

// Parse reads an amount as systemd writes amounts: a number of bytes, or a number followed by K, M, G or T. "" is
// 0.
func Parse(s string) (Bytes, error) {
	if s == "" {
		return 0, nil
	}
	number, shift := s, 0
	if i := strings.IndexByte(units, s[len(s)-1]); i >= 0 {
		number, shift = s[:len(s)-1], 10*(i+1)
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || strings.HasPrefix(number, "+") {
		return 0, errors.New("must be a whole number of bytes, or of K, M, G or T such as \"512M\"")
	}
	if n > math.MaxInt64>>shift {
		return 0, errors.New("must be less than 8388608T")
	}
	return Bytes(n << shift), nil
}

// String returns the amount in the form of Parse, in the largest unit that keeps the number whole; "" for 0.
func (m Bytes) String() string {
	if m == 0 {
		return ""
	}
	unit := ""
	for _, next := range strings.Split(units, "") {
		if m%1024 != 0 {
			break
		}
		m, unit = m/1024, next
	}
	return strconv.FormatUint(uint64(m), 10) + unit
}

// MarshalText is String.
func (m Bytes) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText is Parse.
func (m *Bytes) UnmarshalText(text []byte) (err error) {
	*m, err = Parse(string(text))
	return err
}
