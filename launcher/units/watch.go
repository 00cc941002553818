package units

import (
	"context"

	"boxrun/launcher/fault"
	"boxrun/launcher/list"
)

// firewalls returns the services that flush or replace rules.
func firewalls() []string {
	return []string{"nftables.service", "iptables.service", "ufw.service", "netfilter-persistent.service",
		"firewalld.service", "docker.service"}
}

// repairUnit returns the service that repairs after a firewall.
func repairUnit(firewall string) string { return "boxrun-repair@" + firewall }

// Repairers returns the services that put rules back.
func Repairers() []string {
	return append([]string{WatchUnit}, list.Map(firewalls(), repairUnit)...)
}

// StopRepairers stops the services that put rules back.
func (h *Host) StopRepairers(ctx context.Context) error {
	return h.stop(ctx, Repairers()...).Wait(ctx)
}

// startWatch starts the watch over the host.
func (h *Host) startWatch(ctx context.Context) error {
	return fault.Wrap("starting "+WatchUnit, h.start(ctx, WatchUnit))
}
