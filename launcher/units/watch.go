package units

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/godbus/dbus/v5"

	"boxrun/launcher/fault"
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
	units := []string{WatchUnit}
	for _, firewall := range firewalls() {
		units = append(units, repairUnit(firewall))
	}
	return units
}

// StopRepairers stops the services that put rules back.
func (h *Host) StopRepairers(ctx context.Context) error {
	return h.stop(ctx, Repairers()...).Wait(ctx)
}

// Watch makes systemd run "boxrun repair" after firewalld has flushed rules without a job of systemd's, until ctx ends.
// Watch is the only resident process of boxrun, and so leaves the work to systemd.
func Watch(ctx context.Context) error {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connecting to D-Bus: %w", err)
	}
	defer bus.Close()
	for _, name := range flushes() {
		i := strings.LastIndex(name, ".")
		// D-Bus checks the sender: anybody may send a signal with this name.
		err := bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(netsetup.FirewalldName),
			dbus.WithMatchInterface(name[:i]), dbus.WithMatchMember(name[i+1:]))
		if err != nil {
			return fmt.Errorf("waiting for reloads of firewalld: %w", err)
		}
	}
	signals := make(chan *dbus.Signal, 1)
	bus.Signal(signals)
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("telling systemd that the watch is up: %w", err)
	}
	return repairAfter(ctx, signals)
}

// flushes returns the signals of firewalld after which rules of others may be gone: the end of a reload, and direct rules,
// because firewalld 2 flushes iptables before it writes the first of them.
func flushes() []string {
	const direct = netsetup.FirewalldName + ".direct."
	return []string{netsetup.FirewalldName + ".Reloaded", direct + "ChainAdded", direct + "RuleAdded", direct + "PassthroughAdded"}
}

// batch is how long a repair waits for more signals: scripts add direct rules one by one.
const batch = 50 * time.Millisecond

// repairAfter repairs after signals, until ctx ends.
func repairAfter(ctx context.Context, signals <-chan *dbus.Signal) error {
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case signal, open := <-signals:
			if !open {
				return errors.New("D-Bus went away")
			}
			if due == nil && slices.Contains(flushes(), signal.Name) { // the bus announces our own name, too
				due = time.After(batch)
			}
		case <-due:
			due = nil
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
func startWatch(ctx context.Context) error {
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	state, err := host.activeState(ctx, "firewalld.service") // "inactive" for a firewalld not installed
	if err != nil || state != "active" {
		return fault.Wrap("asking systemd for firewalld", err)
	}
	return fault.Wrap("starting "+WatchUnit, host.start(ctx, WatchUnit))
}
