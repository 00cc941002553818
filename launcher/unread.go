package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/list"
	"boxrun/launcher/network"
	"boxrun/launcher/storage"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// clearUnread stops a box with an unreadable or lost record, and removes everything found by the box's name.
func (l *Launcher) clearUnread(ctx context.Context, k *netsetup.Kernel, name string) error {
	strays, _, err := l.Strays(k, []string{name})
	if err != nil {
		return err
	}
	for _, b := range strays {
		if b.Name != name {
			continue
		}
		if err := l.StopStray(ctx, b); err != nil {
			return fmt.Errorf("stopping %s: %w", name, err)
		}
	}
	if err := errors.Join(fault.Each(storage.UnmadeMemory(l.Store, &box.Box{Name: name}), files.Removal.Do),
		os.RemoveAll(l.BoxDir(name)), files.RemoveIfThere(l.BoxFile(name))); err != nil {
		return err
	}
	return network.Forget(ctx, l.Store, k, name)
}

// StopStray stops an instance without a record, with the stop timeout of a default profile, and waits for its services.
func (l *Launcher) StopStray(ctx context.Context, b *box.Box) error {
	services := units.Stop(ctx, l.Store, b)
	defer services.Close()
	if _, err := guest.Stop(ctx, b.Init, b.Master, b.Cgroup, profiles.Default().Systemd.StopTimeout, l.Live); err != nil {
		return err
	}
	return errors.Join(l.remove(ctx, b), services.Wait(ctx))
}

// StopCommands returns the commands to stop a box, and to wait until Apptainer's master has cleaned up.
func StopCommands(b *box.Box) []string {
	return []string{
		fmt.Sprintf("kill -s RTMIN+3 %d", b.Init.PID),
		fmt.Sprintf("while [ -e /proc/%d ]; do sleep 0.1; done", b.Master.PID),
	}
}

// Strays returns the running instances of boxrun's without a record of boxrun's. Apptainer's records list the
// candidates. An instance belongs to boxrun if it is on a bridge made by boxrun, in a service of boxrun's, or named in
// unread. others are the devices on boxrun's bridges without an instance.
func (l *Launcher) Strays(k *netsetup.Kernel, unread []string) (strays []*box.Box, others []string, err error) {
	traces, err := netsetup.FindTraces(k)
	if err != nil {
		return nil, nil, err
	}
	others, err = list.Concat(traces.Bridges, func(bridge string) ([]string, error) { return netsetup.PortsOn(k, bridge) })
	if err != nil {
		return nil, nil, err
	}
	records, err := filepath.Glob(apptainer.RecordPath(l.Home, "*", "*"))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range records {
		b, err := stray(l.Store, path)
		if err != nil {
			continue // the record has no running instance
		}
		port := slices.Index(others, b.Veth)
		if port >= 0 {
			others = slices.Delete(others, port, port+1)
		}
		if port >= 0 || b.Unit != "" || slices.Contains(unread, b.Name) {
			strays = append(strays, b)
		}
	}
	return strays, others, nil
}

// stray returns the running instance described by Apptainer's record at path. A record without a running instance is an
// error.
func stray(s *box.Store, path string) (*box.Box, error) {
	r, err := apptainer.ReadRecord(path)
	if err == nil {
		err = r.Verify()
	}
	if err != nil {
		return nil, err
	}
	hostname := filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(path))))
	b := &box.Box{Name: r.Name, Record: path, Log: apptainer.LogPath(s.Home, hostname, r.Name),
		Profile: profiles.Profile{Name: r.Name, File: fileOfBox(r.Name)}}
	// An instance in the host's network has no link.
	if link, err := netsetup.BoxLink(r.PID, network.BoxDevice); err == nil {
		b.Veth = link.Veth
	}
	if unit := units.Of(r.PPID); units.IsOf(unit, r.Name) {
		b.Unit = unit
	}
	return b, adopt(b, r)
}

// fileOfBox returns the name a box's profile file must have for the box's service to be the enabled service. If no such
// service is enabled, fileOfBox returns the usual name.
func fileOfBox(name string) string {
	if enabled := units.EnabledAs(name); enabled != "" {
		name, _, _ = strings.Cut(enabled, "@")
	}
	return name + ".toml"
}
