package network

import (
	"fmt"
	"os"
	"strings"

	"boxrun/netsetup"
)

// PingGroups is what systemd sets on a machine of its own: all groups. A box's systemd-sysctl is masked.
const PingGroups = "0 2147483647"

// AllowPing lets every user in the network of a box's init ping without capabilities, which an image may have lost and
// file systems mounted nosuid do not give. The setting is of that network and goes with it. It gives the one before.
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
