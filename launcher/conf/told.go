package conf

import (
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/confine"
	"boxrun/profiles"
)

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
		"nm-priv-helper.service",
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
		// Firewalls.
		"firewalld.service", "dbus-org.fedoraproject.FirewallD1.service", "nftables.service", "iptables.service",
		"ip6tables.service", "arptables.service", "ebtables.service", "ipset.service", "netfilter-persistent.service",
		"ufw.service", "shorewall.service", "shorewall6.service", "ferm.service",
	}
}

// Told returns the configuration that the box gets by files. Its hosts file names the neighbours among boxes.
func Told(b *box.Box, p profiles.Profile, names Resolvers, boxes []*box.Box) Dir {
	c := Dir{
		Systemd: !box.IsHello(p.Image), Confined: p.Security.Confined(), Hosts: HostsOf(b, boxes), Names: names,
		Environment: p.Systemd.Environment, Mask: p.Systemd.Mask, TasksHeld: p.Resources.PIDs > 0,
	}
	if box.KeepsJournal(p) {
		c.MachineID, _ = box.MachineID(p.Name) // a start is refused where there is none
	}
	if p.Network.Mode == profiles.HostMode {
		c.Mask = slices.Concat(networkManagers(), c.Mask)
	}
	c.Mask = slices.Concat(confine.UselessUnits(p.Security), c.Mask)
	return c
}
