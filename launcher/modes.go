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

// What is said everywhere else of a box's network is about one behind a bridge. This file has what differs for a box in
// the host's own network and for one without any.

// bridged says whether the box is on a bridge: only then has it an address and rules, and needs the host's network set
// up.
func (b *Box) bridged() bool { return b.Profile.Network.Mode == profiles.BridgeMode }

// hostNetns is the network namespace of the host: Apptainer joins it before it enters the box's mounts.
const hostNetns = "/proc/1/ns/net"

// networkFlags gives the part of the command line that connects the box. --boot alone would ask for Apptainer's own
// bridge; that it implies --net is why Apptainer warns of --netns-path, and then does as it is told.
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

// Where says how the box is connected, to follow "started".
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

// shownAddress is what stands in the column of addresses: the mode's name where the box has none of its own.
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

// shownPort is what stands in the column of ports: in the host's network nothing is forwarded.
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

// readyAddr gives where the host looks for the box's ports. In the host's own network that is an address of the host
// other than 127.0.0.1, where it has one: what listens on 127.0.0.1 alone is reached by nobody else.
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

// holds says whether a process lives in the box: its listeners are the host's too where the network is. A nil box has
// none.
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

// refuseHostMode wants an Apptainer that can join a namespace, and a host whose network is the one boxrun looks at.
// Only this mode pays for asking Apptainer's version.
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

// apptainerVersion asks Apptainer for its version: "1.4.5-2".
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

// tooOld says whether a version is older than 1.4, which brought --netns-path. Of one that reads otherwise Apptainer
// itself will say what it cannot do.
func tooOld(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	m, err := strconv.Atoi(major)
	n, errMinor := strconv.Atoi(minor)
	return err == nil && errMinor == nil && (m < 1 || m == 1 && n < 4)
}

// networkManagers gives the units that no box in the host's network may start: they would take the host's devices,
// addresses, routes and firewall for their own. Other names of a unit are listed too, as older systemds follow an alias
// to the file. In a template's name every instance is meant.
func networkManagers() []string {
	return []string{
		// systemd's own.
		"systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-varlink.socket",
		"systemd-networkd-varlink-metrics.socket", "systemd-networkd-resolve-hook.socket",
		"systemd-networkd-persistent-storage.service", "systemd-networkd-wait-online.service",
		"systemd-networkd-wait-online@.service", "systemd-network-generator.service",
		"dbus-org.freedesktop.network1.service", "systemd-resolved.service", "systemd-resolved-monitor.socket",
		"systemd-resolved-varlink.socket", "dbus-org.freedesktop.resolve1.service",
		// NetworkManager, and what it works with.
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
		// What sets a cloud's machine up, its network among it.
		"cloud-init.service", "cloud-init-local.service", "cloud-init-main.service", "cloud-init-network.service",
		"cloud-init-hotplugd.service", "cloud-init-hotplugd.socket", "cloud-config.service", "cloud-final.service",
		// Firewalls.
		"firewalld.service", "dbus-org.fedoraproject.FirewallD1.service", "nftables.service", "iptables.service",
		"ip6tables.service", "arptables.service", "ebtables.service", "ipset.service", "netfilter-persistent.service",
		"ufw.service", "shorewall.service", "shorewall6.service", "ferm.service",
	}
}
