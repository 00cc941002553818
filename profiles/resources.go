package profiles

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Memory is an amount of memory in bytes; 0 means not given.
type Memory uint64

// The lowest limits of a box. Below these no init can work.
const (
	leastMemory Memory = 16 << 20
	leastPIDs          = 8
)

const mostPIDs = 1 << 22 // the kernel's PID_MAX_LIMIT

// memoryUnits are the units of systemd, each 1024 times the unit before.
const memoryUnits = "KMGT"

// ParseMemory reads an amount as systemd writes amounts: a number of bytes, or a number followed by K, M, G or T. "" is
// 0.
func ParseMemory(s string) (Memory, error) {
	if s == "" {
		return 0, nil
	}
	number, shift := s, 0
	if i := strings.IndexByte(memoryUnits, s[len(s)-1]); i >= 0 {
		number, shift = s[:len(s)-1], 10*(i+1)
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || strings.HasPrefix(number, "+") {
		return 0, errors.New("must be a whole number of bytes, or of K, M, G or T such as \"512M\"")
	}
	if n > math.MaxInt64>>shift {
		return 0, errors.New("must be less than 8388608T")
	}
	return Memory(n << shift), nil
}

// String returns the amount in the form of ParseMemory, in the largest unit that keeps the number whole; "" for 0.
func (m Memory) String() string {
	if m == 0 {
		return ""
	}
	unit := ""
	for _, next := range strings.Split(memoryUnits, "") {
		if m%1024 != 0 {
			break
		}
		m, unit = m/1024, next
	}
	return strconv.FormatUint(uint64(m), 10) + unit
}

// MarshalText is String.
func (m Memory) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText is ParseMemory.
func (m *Memory) UnmarshalText(text []byte) (err error) {
	*m, err = ParseMemory(string(text))
	return err
}

// decode reads [resources].
func (r *Resources) decode(s *section) {
	take(s, "memory", &r.Memory, text(boxMemory))
	take(s, "pids", &r.PIDs, whole(boxPIDs))
	take(s, "cpus", &r.CPUs, decimal)
}

func boxMemory(text string) (Memory, error) {
	m, err := ParseMemory(text)
	if err == nil && m != 0 && m < leastMemory {
		err = fmt.Errorf("must be at least %s", leastMemory)
	}
	return m, err
}

func boxPIDs(n int64) (int, error) {
	if n != 0 && (n < leastPIDs || n > mostPIDs) {
		return 0, fmt.Errorf("must be %d to %d, or 0 for no limit", leastPIDs, mostPIDs)
	}
	return int(n), nil
}

// decimal reads a number of processors, whole or a fraction.
func decimal(s *section, name string, raw any) (float64, bool) {
	if n, ok := raw.(int64); ok {
		raw = float64(n)
	}
	return checked(typed[float64]("a number"), boxCPUs)(s, name, raw)
}

// boxCPUs checks a number of processors. The smallest step is a hundredth, as systemd keeps whole percents of a
// processor.
func boxCPUs(cpus float64) (float64, error) {
	const most = 8192 // the kernel's NR_CPUS
	hundredths := cpus * 100
	switch {
	case cpus == 0:
		return 0, nil
	case math.IsNaN(cpus) || cpus < 0.01 || cpus > most:
		return 0, fmt.Errorf("must be 0.01 to %d, or 0 for no limit", most)
	case math.Abs(hundredths-math.Round(hundredths)) > 1e-6:
		return 0, errors.New("must have at most two decimals")
	}
	return cpus, nil
}

// Limited reports whether any resource is limited.
func (r Resources) Limited() bool { return r != Resources{} }
