package profiles

import (
	"errors"
	"fmt"
	"math"

	"boxrun/profiles/amount"
)

// The lowest limits of a box. Below these no init can work.
const (
	leastMemory amount.Bytes = 16 << 20
	leastPIDs                = 8
)

const mostPIDs = 1 << 22 // the kernel's PID_MAX_LIMIT

// decode reads [resources].
func (r *Resources) decode(s *section) {
	take(s, "memory", &r.Memory, text(boxMemory))
	take(s, "pids", &r.PIDs, whole(boxPIDs))
	take(s, "cpus", &r.CPUs, decimal)
}

func boxMemory(text string) (amount.Bytes, error) {
	m, err := amount.Parse(text)
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
