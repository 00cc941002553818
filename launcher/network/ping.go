package network

import (
	"fmt"
	"os"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/netsetup/dump"
)

// PingGroups is the value of net.ipv4.ping_group_range set by systemd on a machine of its own: all groups. In a box,
// systemd-sysctl is masked.
const PingGroups = "0 2147483647"

// RepairPing lets every user in a box with a network of its own ping again, and returns a line if not every user could.
func RepairPing(b *box.Box) ([]string, error) {
	if !b.Bridged() && !b.OnLAN() {
		return nil, nil
	}
	was, err := allowPing(b.Init.PID)
	if err != nil || was == PingGroups {
		return nil, err
	}
	return []string{fmt.Sprintf("net.ipv4.ping_group_range was %q in its network, and let no user ping", was)}, nil
}

// letPing is allowPing at a start, with a warning for an error.
func letPing(s *box.Store, b *box.Box) {
	if _, err := allowPing(b.Init.PID); files.IgnoreNotExist(err) != nil { // an init that ends has no network, of which the start will tell
		s.Notef("%s: warning: %v", b.Name, err)
	}
}

// allowPing lets every user in the network of a box's init ping without capabilities: an image may have lost ping's
// capabilities, and file systems mounted nosuid give none. The setting vanishes with the network. allowPing returns
// the setting from before.
func allowPing(pid int) (was string, err error) {
	const file = "/proc/sys/net/ipv4/ping_group_range"
	err = dump.InNetworkOf(pid, func() error {
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
