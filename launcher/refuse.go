package launcher

import (
	"errors"
	"fmt"
	"os"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/limits"
	"boxrun/launcher/network"
	"boxrun/launcher/storage"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// Refuse looks, before any change, for everything that would keep the profile from working on this host. The error
// reports every problem found.
func (l *Launcher) Refuse(k *netsetup.Kernel, p profiles.Profile) error {
	return errors.Join(storage.RefuseImage(p, l.Search), l.refuseBuilt(k, p))
}

// refuseBuilt is refuse for a profile whose image is built before the start.
func (l *Launcher) refuseBuilt(k *netsetup.Kernel, p profiles.Profile) error {
	_, err := apptainer.Look()
	others, loadErr := l.Others(p.Name)
	own, ownErr := l.Load(p.Name)
	return errors.Join(err, loadErr, files.IgnoreNotExist(ownErr),
		storage.RefuseBinds(p),
		conf.RefuseSecrets(l.Store, p),
		storage.RefuseOverlay(p, others),
		limits.Refuse(p),
		l.refuseInstance(p.Name),
		box.RefuseHostMode(p),
		network.RefuseNetwork(p, others),
		network.RefusePorts(k, p, own, others),
	)
}

// refuseInstance refuses if somebody started an Apptainer instance of this name by hand. An instance of the box itself
// is cleared before the start.
func (l *Launcher) refuseInstance(name string) error {
	if b, err := l.Load(name); err == nil {
		if b.Foreign() {
			return foreignInstance(name)
		}
		return nil
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	r, err := apptainer.ReadRecord(apptainer.RecordPath(l.Home, hostname, name))
	if err != nil || r.Verify() != nil {
		return files.IgnoreNotExist(err)
	}
	return foreignInstance(name)
}

func foreignInstance(name string) error {
	return fault.Refused(fmt.Sprintf("run \"apptainer instance stop %s\" first", name),
		"an Apptainer instance named %q runs that boxrun did not start", name)
}
