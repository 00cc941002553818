package units

import (
	"context"
	"errors"
	"fmt"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/godbus/dbus/v5"

	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/netsetup"
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

// Watch makes systemd run "boxrun repair" after every reload of firewalld, until ctx ends. Watch is the only resident
// process of boxrun, and so leaves the work to systemd.
func Watch(ctx context.Context) error {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connecting to D-Bus: %w", err)
	}
	defer bus.Close()
	// D-Bus checks the sender: anybody may send a signal with this name.
	const firewalld = netsetup.FirewalldName // the name of its interface, too
	err = bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(firewalld), dbus.WithMatchInterface(firewalld),
		dbus.WithMatchMember("Reloaded"))
	if err != nil {
		return fmt.Errorf("waiting for reloads of firewalld: %w", err)
	}
	reloads := make(chan *dbus.Signal, 1)
	bus.Signal(reloads)
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("telling systemd that the watch is up: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case signal, open := <-reloads:
			if !open {
				return errors.New("D-Bus went away")
			}
			if signal.Name != firewalld+".Reloaded" {
				continue // the bus announces our own name
			}
			if err := repairNow(ctx); err != nil {
				return err
			}
		}
	}
}

// repairNow makes systemd run boxrun-repair@firewalld.service, again if the service runs.
func repairNow(ctx context.Context) error {
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	unit := repairUnit("firewalld.service")
	return fault.Wrap("restarting "+unit, host.job(ctx, host.RestartUnitContext, unit, "replace", nil))
}

// startWatch starts the watch if firewalld runs.
func (h *Host) startWatch(ctx context.Context) error {
	state, err := h.activeState(ctx, "firewalld.service") // "inactive" for a firewalld not installed
	if err != nil || state != "active" {
		return fault.Wrap("asking systemd for firewalld", err)
	}
	return fault.Wrap("starting "+WatchUnit, h.start(ctx, WatchUnit))
}
