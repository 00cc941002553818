package launcher

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// Comments elsewhere about a box's network describe a box behind a bridge. This file has the differences for a box in
// the host's own network and for a box without a network.

// bridged reports whether the box is on a bridge. Only a box on a bridge has an address and rules, and needs the host's
// network set up.
func (b *Box) bridged() bool { return b.Profile.Network.Mode == profiles.BridgeMode }

// hostNetns is the network namespace of the host. Apptainer joins this namespace before entering the box's mounts.
const hostNetns = "/proc/1/ns/net"

// networkFlags returns Apptainer's flags that connect the box. --boot alone would ask for Apptainer's own bridge. As
// --boot implies --net, Apptainer warns of --netns-path, but obeys.
func (s start) networkFlags() []string {
	switch s.Profile.Network.Mode {
	case profiles.HostMode:
		return []string{"--netns-path", hostNetns}
	case profiles.NoneMode:
		return []string{"--net", "--network", "none"}
	default:
		return []string{"--net", "--network", s.Network, "--network-args", "IP=" + s.Addr.String()}
	}
}

// Where describes how the box is connected, for text after "started".
func (b *Box) Where() string {
	switch b.Profile.Network.Mode {
	case profiles.HostMode:
		return "in the host's network"
	case profiles.NoneMode:
		return "without a network"
	default:
		return "at " + b.Addr.String()
	}
}

// shownAddress returns the text for a column of addresses: the mode's name if the box has no address of its own.
func (b *Box) shownAddress() string {
	switch {
	case !b.bridged():
		return b.Profile.Network.Mode
	case b.Addr.IsValid():
		return b.Addr.String()
	default:
		return ""
	}
}

// shownPort returns the text for a column of ports. In the host's network nothing is forwarded, so only the box's port
// is shown.
func (b *Box) shownPort(p profiles.Port) string {
	if b.bridged() {
		return p.String()
	}
	_, inside, _ := strings.Cut(p.String(), "->")
	if p.HostIP.IsValid() {
		return p.HostIP.String() + ":" + inside
	}
	return inside
}

// readyAddr returns the address at which the host looks for the box's ports. In the host's own network this is an
// address of the host other than 127.0.0.1, if there is any: a server listening on 127.0.0.1 alone is out of reach for
// all others.
func (b *Box) readyAddr() (netip.Addr, error) {
	if b.Profile.Network.Mode != profiles.HostMode {
		return b.Addr, nil
	}
	external, err := netsetup.DefaultExternal()
	if err != nil {
		return netip.Addr{}, err
	}
	local, err := netsetup.LocalAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, addr := range append(external.Addrs, local...) {
		if !addr.IsLoopback() {
			return addr, nil
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

// holds reports whether a process lives in the box. In the host's network, the box's listeners are the host's too. A
// nil box holds no process.
func (b *Box) holds(pid int) bool {
	if b == nil || pid == 0 || !b.alive() {
		return false
	}
	theirs, err := os.Readlink(procFile(pid, "ns/pid"))
	if err != nil {
		return false // it has just ended
	}
	ours, err := os.Readlink(procFile(b.Init.PID, "ns/pid"))
	return err == nil && ours == theirs
}

// refuseHostMode refuses the host mode if Apptainer is too old to join a namespace, or if boxrun runs in another
// network than the host's. Only this mode pays for asking Apptainer's version.
func refuseHostMode(p profiles.Profile) error {
	if p.Network.Mode != profiles.HostMode {
		return nil
	}
	version, err := apptainerVersion(context.Background())
	if err != nil {
		return err
	}
	if tooOld(version) {
		return refused("install Apptainer 1.4 or newer, or use network.mode = \"bridge\"",
			"%s: network.mode: \"host\" needs Apptainer 1.4, this is %s", p.File, version)
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	if theirs, err := os.Readlink(hostNetns); err != nil || ours != theirs {
		return errors.Join(err, refused("run boxrun in the host's own network namespace",
			"%s: network.mode: \"host\" is the network of process 1, and boxrun runs in another", p.File))
	}
	return nil
}

// apptainerVersion returns Apptainer's version, as in "1.4.5-2".
func apptainerVersion(ctx context.Context) (string, error) {
	path, err := lookApptainer()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("running %s --version: %w", path, err)
	}
	fields := strings.Fields(string(out))
	if len(fields) == 0 {
		return "", fmt.Errorf("running %s --version: it says nothing", path)
	}
	return fields[len(fields)-1], nil
}

// tooOld reports whether a version is older than 1.4, the first with --netns-path. A version tooOld cannot parse counts
// as new enough: Apptainer itself will report a missing feature.
func tooOld(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	m, err := strconv.Atoi(major)
	n, errMinor := strconv.Atoi(minor)
	return err == nil && errMinor == nil && (m < 1 || m == 1 && n < 4)
}

// networkManagers returns the units no box in the host's network may start: they would take over the host's devices,
// addresses, routes and firewall. Aliases of units are listed too, since older systemds follow an alias to the file. A
// template's name stands for all of its instances.
func networkManagers() []string {
	return []string{
		// systemd's own.
		"systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-varlink.socket",
		"systemd-networkd-varlink-metrics.socket", "systemd-networkd-resolve-hook.socket",
		"systemd-networkd-persistent-storage.service", "systemd-networkd-wait-online.service",
		"systemd-networkd-wait-online@.service", "systemd-network-generator.service",
		"dbus-org.freedesktop.network1.service", "systemd-resolved.service", "systemd-resolved-monitor.socket",
		"systemd-resolved-varlink.socket", "dbus-org.freedesktop.resolve1.service",
		// NetworkManager and its helpers.
		"NetworkManager.service", "NetworkManager-dispatcher.service", "NetworkManager-wait-online.service",
		"nm-cloud-setup.service", "nm-cloud-setup.timer", "nm-priv-helper.service",
		"dbus-org.freedesktop.NetworkManager.service", "dbus-org.freedesktop.nm-dispatcher.service",
		"ModemManager.service", "dbus-org.freedesktop.ModemManager1.service", "wpa_supplicant.service",
		"wpa_supplicant@.service", "iwd.service",
		// ifupdown, and the scripts of other distributions.
		"networking.service", "ifup@.service", "ifupdown-pre.service", "ifupdown-wait-online.service",
		"network.service", "netctl.service", "netctl@.service", "netplan-configure.service",
		// DHCP clients.
		"dhcpcd.service", "dhcpcd@.service", "dhclient.service", "dhclient@.service",
		// SUSE's, and those of small systems.
		"wicked.service", "wickedd.service", "wickedd-auto4.service", "wickedd-dhcp4.service",
		"wickedd-dhcp6.service", "wickedd-nanny.service", "wickedd-pppd@.service", "connman.service",
		"connman-vpn.service", "connman-wait-online.service", "dbus-org.moblin.connman.service",
		// Tools that set up a cloud's machine, and with the machine its network.
		"cloud-init.service", "cloud-init-local.service", "cloud-init-main.service", "cloud-init-network.service",
		"cloud-init-hotplugd.service", "cloud-init-hotplugd.socket", "cloud-config.service", "cloud-final.service",
		// Firewalls.
		"firewalld.service", "dbus-org.fedoraproject.FirewallD1.service", "nftables.service", "iptables.service",
		"ip6tables.service", "arptables.service", "ebtables.service", "ipset.service", "netfilter-persistent.service",
		"ufw.service", "shorewall.service", "shorewall6.service", "ferm.service",
	}
}
