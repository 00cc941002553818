package site

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStopsForwarding has hosts with a device eth0 of the index 2.
func TestStopsForwarding(t *testing.T) {
	const managed = "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/50-a.network\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"typed":                        {nil, ""},
		"by name":                      {map[string]string{"etc/sysctl.d/60-a.conf": "# no\nnet.ipv4.conf.eth0.forwarding=0\n"}, "/etc/sysctl.d/60-a.conf:2"},
		"taken back later":             {map[string]string{"etc/sysctl.d/60-a.conf": "net.ipv4.conf.eth0.forwarding=0\n", "run/sysctl.d/70-b.conf": "net/ipv4/conf/eth0/forwarding = 1\n"}, ""},
		"by a pattern":                 {map[string]string{"usr/lib/sysctl.d/60-a.conf": "net.ipv4.conf.*.forwarding=0\n"}, "/usr/lib/sysctl.d/60-a.conf:1"},
		"for new devices":              {map[string]string{"etc/sysctl.d/60-a.conf": "net.ipv4.conf.default.forwarding=0\n"}, "/etc/sysctl.d/60-a.conf:1"},
		"by networkd":                  {map[string]string{"run/systemd/netif/links/2": managed, "etc/systemd/network/50-a.network": "[Network]\nIPv4Forwarding = No\n"}, "/etc/systemd/network/50-a.network:2"},
		"by networkd's drop-in":        {map[string]string{"run/systemd/netif/links/2": managed, "etc/systemd/network/50-a.network.d/x.conf": "[Network]\nIPForward=ipv6\n"}, "/etc/systemd/network/50-a.network.d/x.conf:2"},
		"by networkd for all":          {map[string]string{"run/systemd/netif/links/2": managed, "etc/systemd/networkd.conf": "[Network]\nIPv4Forwarding=no\n"}, "/etc/systemd/networkd.conf:2"},
		"by networkd for all but this": {map[string]string{"run/systemd/netif/links/2": managed, "etc/systemd/networkd.conf": "[Network]\nIPv4Forwarding=no\n", "etc/systemd/network/50-a.network": "IPv4Forwarding=yes\n"}, ""},
		"networkd leaves it alone":     {map[string]string{"run/systemd/netif/links/2": "NETWORK_FILE=/etc/systemd/network/50-a.network\nADMIN_STATE=unmanaged\n", "etc/systemd/network/50-a.network": "IPv4Forwarding=no\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := hostOf(t, test.files)
			got, err := StopsForwarding(root, "eth0")
			if got = strings.TrimPrefix(got, root); got != test.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// hostOf makes a root with files and the device eth0.
func hostOf(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write := func(file, text string) {
		path := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("sys/class/net/eth0/ifindex", "2\n")
	for file, text := range files {
		write(file, text)
	}
	return root
}
