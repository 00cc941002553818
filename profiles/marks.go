package profiles

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
)

// Marks are bits of the marks of packets and connections, side by side.
type Marks uint32

// defaultMarks are clear of what is known to be in use: Tailscale's 0xff0000, Kubernetes' 0x4000 and 0x8000, podman's
// 0x2000, Docker's and the AWS CNI plugin's 0x80, and of the whole numbers of WireGuard and firewalld.
const defaultMarks Marks = 0x7f000000

// ParseMarks reads bits as C writes numbers.
func ParseMarks(s string) (Marks, error) {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil || n == 0 || bits.OnesCount64(n>>bits.TrailingZeros64(n)+1) != 1 {
		return 0, errors.New("must be bits side by side, such as \"0x7f000000\"")
	}
	return Marks(n), nil
}

// String returns the bits in the form of ParseMarks, "" for none.
func (m Marks) String() string {
	if m == 0 {
		return ""
	}
	return fmt.Sprintf("%#x", uint32(m))
}

// MarshalText is String.
func (m Marks) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText is ParseMarks, but takes "" for no bits: so are the records of older boxruns.
func (m *Marks) UnmarshalText(text []byte) (err error) {
	if *m = 0; len(text) > 0 {
		*m, err = ParseMarks(string(text))
	}
	return err
}
