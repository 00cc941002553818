package network

import (
	"fmt"
	"os"
	"strings"

	"boxrun/netsetup"
)

// PingGroups stands for all groups: systemd sets the same value on a machine of its own. In a box systemd-sysctl is
// masked.
const PingGroups = "0 2147483647"

// AllowPing lets every user ping without capabilities, in the network namespace of the process pid, a box's init. The
// image's ping may have lost its capability, and a file system mounted nosuid grants none. The setting belongs to the
// network namespace and disappears with the namespace. was is the old setting.
func AllowPing(pid int) (was string, err error) {
	const file = "/proc/sys/net/ipv4/ping_group_range"
	err = netsetup.InNetworkOf(pid, func() error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		was = strings.Join(strings.Fields(string(text)), " ")
		return os.WriteFile(file, []byte(PingGroups), 0)
	})
	if err != nil {
		return was, fmt.Errorf("letting users ping: %w", err)
	}
	return was, nil
}
