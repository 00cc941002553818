package testhost

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// The host's external interface keeps its address over reboots, as on a real host. The client need not learn the
// address anew.
const hostMAC = "02:00:00:00:02:01"

func clientName(host string) string { return host + "-c" }

func netnsPath(name string) string { return filepath.Join("/run/netns", name) }

// makeClient makes the client host, a network namespace. The client stays when the host reboots.
func (h *Host) makeClient() error {
	client := clientName(h.name)
	if err := run("ip", "netns", "add", client); err != nil {
		return err
	}
	return run("ip", "-n", client, "link", "set", "lo", "up")
}

// makeWire makes the host's network namespace and connects the host's eth0 to the client's. The client is the host's
// default gateway.
func (h *Host) makeWire() error {
	host, client := h.name, clientName(h.name)
	for _, argv := range [][]string{
		{"ip", "netns", "add", host},
		{"ip", "-n", host, "link", "set", "lo", "up"},
		{"ip", "-n", host, "link", "add", "eth0", "address", hostMAC, "type", "veth", "peer", "name", "eth0", "netns", client},
		// No wait for duplicates of the link-local address: dumps before and after the wait would differ.
		{"ip", "netns", "exec", host, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0"},
		{"ip", "-n", host, "addr", "add", HostAddr + "/24", "dev", "eth0"},
		{"ip", "-n", host, "link", "set", "eth0", "up"},
		{"ip", "-n", client, "addr", "add", ClientAddr + "/24", "dev", "eth0"},
		{"ip", "-n", client, "link", "set", "eth0", "up"},
		{"ip", "-n", host, "route", "add", "default", "via", ClientAddr},
	} {
		if err := run(argv...); err != nil {
			return err
		}
	}
	return nil
}

// removeWire removes the wire and the host's network namespace. A missing wire or namespace is no error. The wire goes
// first: the kernel removes namespaces late, and until then the client's end would be in the way of the next wire.
func removeWire(host string) error {
	var err error
	client := clientName(host)
	if exec.Command("ip", "-n", client, "link", "show", "eth0").Run() == nil {
		err = run("ip", "-n", client, "link", "del", "eth0")
	}
	return errors.Join(err, removeNetns(host))
}

// removeNetns removes a network namespace by name, with the links in the namespace. A missing namespace is no error.
func removeNetns(name string) error {
	if _, err := os.Lstat(netnsPath(name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return run("ip", "netns", "del", name)
}
