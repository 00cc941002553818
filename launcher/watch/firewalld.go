package watch

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"

	"boxrun/launcher/files"
	"boxrun/netsetup/bus"
)

// watchFirewalld tells of reloads of firewalld, which drop interfaces from zones, and of its start and its end: older
// versions flush rules with both, of which the kernel is silent for iptables-legacy. A host without D-Bus has no firewalld.
func watchFirewalld(ctx context.Context, w *watcher) error {
	if !files.Exists("/run/dbus/system_bus_socket") {
		return nil
	}
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connecting to D-Bus: %w", err)
	}
	// D-Bus checks the sender: anybody may send a signal with this name.
	const (
		firewalld = bus.FirewalldName // the name of its interface, too
		busName   = "org.freedesktop.DBus"
	)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(firewalld), dbus.WithMatchInterface(firewalld),
		dbus.WithMatchMember("Reloaded"))
	if err == nil {
		err = conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName),
			dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, firewalld))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("waiting for reloads of firewalld: %w", err), conn.Close())
	}
	reloads := make(chan *dbus.Signal, 1)
	conn.Signal(reloads)
	go func() {
		for signal := range reloads {
			if signal.Name == firewalld+".Reloaded" || signal.Name == busName+".NameOwnerChanged" { // the bus announces our own name, too
				w.tell()
			}
		}
		if ctx.Err() == nil {
			w.fail(errors.New("D-Bus went away"))
		}
	}()
	return nil
}
