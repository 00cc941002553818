package launcher

import (
	"context"
	"errors"
	"fmt"

	"boxrun/netsetup"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/godbus/dbus/v5"
)

// Watch has systemd run "boxrun repair" whenever firewalld was reloaded, until ctx ends. It is the one process of boxrun's
// that is resident, so it does nothing itself.
func (l *Launcher) Watch(ctx context.Context) error {
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connecting to D-Bus: %w", err)
	}
	defer bus.Close()
	// D-Bus checks the sender: anybody may send a signal of that name.
	err = bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(netsetup.FirewalldName), dbus.WithMatchInterface(netsetup.FirewalldName),
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
			if signal.Name != netsetup.FirewalldName+".Reloaded" {
				continue // that the bus has given us a name
			}
			if err := repairNow(ctx); err != nil {
				return err
			}
		}
	}
}

// repairNow has systemd run boxrun-repair@firewalld.service, again if it runs.
func repairNow(ctx context.Context) error {
	host, err := dialHost(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	unit := repairUnit("firewalld.service")
	return wrap("restarting "+unit, host.ask(ctx, func(ctx context.Context) error {
		_, err := host.conn.RestartUnitContext(ctx, unit, "replace", nil)
		return err
	}))
}

// startWatch starts the watch where there is a firewalld to be watched.
func (l *Launcher) startWatch(ctx context.Context) error {
	host, err := dialHost(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	state, err := host.activeState(ctx, "firewalld.service") // of one that is not installed, "inactive"
	if err != nil || state != "active" {
		return wrap("asking systemd for firewalld", err)
	}
	return wrap("starting "+watchUnit, host.startUnit(ctx, watchUnit))
}
