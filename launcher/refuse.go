package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/confine"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/inotify"
	"boxrun/launcher/lan"
	"boxrun/launcher/limits"
	"boxrun/launcher/network"
	"boxrun/launcher/process"
	"boxrun/launcher/storage"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// Refuse looks, before any change, for everything that would keep the profile from working on this host. The error
// reports every problem found.
func (l *Launcher) Refuse(ctx context.Context, k *netsetup.Kernel, p profiles.Profile) error {
	if err := storage.RefuseSilent(ctx, p); err != nil {
		return err
	}
	_, err := l.examine(ctx, k, p, false)
	return err
}

// RefuseHere returns what of the profile this host lacks at any time, as far as the caller may look: files, interfaces,
// profiles of other boxes. Whether ports, names and overlays are free is a question of the moment, for Refuse.
func (l *Launcher) RefuseHere(ctx context.Context, p profiles.Profile) error {
	if _, err := l.Search.Dependencies(p); err != nil {
		return err
	}
	if err := storage.RefuseSilent(ctx, p); err != nil {
		return err
	}
	_, externalErr := network.ExternalAtStart(p.Network)
	_, devicesErr := confine.LookDevices(p)
	var secretsErr error
	if l.Caller.Root { // others may not look at files of root's
		_, secretsErr = conf.ReadSecrets(l.Store, p)
	}
	_, parentErr := lan.Parent(p)
	return errors.Join(externalErr, parentErr, network.RefuseBridge(p), network.RefuseSCTP(p), storage.RefuseImage(p, l.Search),
		storage.RefuseBinds(p), storage.CheckOverlay(p), secretsErr, devicesErr, limits.Refuse(p), box.RefuseHostMode(ctx, p))
}

// examine is Refuse, and returns the facts for a start. With force the overlay of another machine is not refused.
func (l *Launcher) examine(ctx context.Context, k *netsetup.Kernel, p profiles.Profile, force bool) (facts, error) {
	f, err := l.examineBuilt(ctx, k, p, force)
	return f, errors.Join(storage.RefuseImage(p, l.Search), storage.RefuseSystemd(p, process.UnifiedCgroups()), err)
}

// examineBuilt is examine for a profile whose image is built before the start.
func (l *Launcher) examineBuilt(ctx context.Context, k *netsetup.Kernel, p profiles.Profile, force bool) (facts, error) {
	others, loadErr := l.Others(p.Name)
	own, ownErr := l.Load(p.Name)
	inUse := lan.InUse(p, own, others)
	f, err := l.look(ctx, p)
	f.force = force
	var secretErr error
	f.secrets, secretErr = conf.ReadSecrets(l.Store, p)
	return f, errors.Join(err, loadErr, files.IgnoreNotExist(ownErr),
		storage.RefuseBinds(p),
		secretErr,
		storage.RefuseOverlay(p, others, force),
		storage.RefuseInUse(p, own, others),
		storage.RefuseJournal(p),
		limits.Refuse(p),
		l.refuseInstance(p.Name, own),
		box.RefuseHostMode(ctx, p),
		units.RefuseFailureUnit(ctx, p),
		network.RefuseSCTP(p),
		network.RefuseTaken(p),
		network.RefuseNetwork(p, others),
		lan.RefuseTaken(p, others),
		network.RefusePorts(k, p, f.external, own, others),
		inUse(),
	)
}

// warnOfProfile warns of a box without a name server, and of an overlay image larger than the profile says.
func (l *Launcher) warnOfProfile(b *box.Box, f facts) {
	if larger := storage.KeptLarger(b.Profile); larger != "" {
		l.Notef("%s: warning: %s", b.Name, larger)
	}
	if lack := f.resolvers.Lack; lack != "" {
		l.Notef("%s: warning: %s, names will not resolve in the box; hint: %s", b.Name, lack, conf.LackHint)
	}
}

// warnOfInotify warns where root's inotify instances may not suffice for another box.
func warnOfInotify(s *box.Store, b *box.Box) {
	if room, err := inotify.LookFor(); err == nil && room.Tight() { // a kernel without inotify has no limit
		s.Notef("%s: warning: %v, units of the box may fail; hint: %s", b.Name, room, room.Hint())
	}
}

// refuseInstance refuses if somebody started an Apptainer instance of this name by hand. An instance of the box itself,
// own, is cleared before the start; nil: there is no box.
func (l *Launcher) refuseInstance(name string, own *box.Box) error {
	if own != nil {
		if own.Foreign() {
			return foreignInstance(name)
		}
		return nil
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	path := apptainer.RecordPath(l.Home, hostname, name)
	if err := refuseReadOnly(name, files.Existing(filepath.Dir(path))); err != nil {
		return err
	}
	r, err := apptainer.ReadRecord(path)
	if err != nil || r.Verify() != nil {
		return files.IgnoreNotExist(err)
	}
	if l.IsLost(name) {
		return box.LostProblem(name)
	}
	return foreignInstance(name)
}

// refuseReadOnly refuses a directory for Apptainer's records on a read-only file system.
func refuseReadOnly(name, dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		return fault.Wrap("looking at "+dir, err)
	}
	return fault.Refused(writableHint(dir), "%s: Apptainer cannot keep its records in %s: the file system is read-only", name, dir)
}

func foreignInstance(name string) error {
	return fault.Refused(fmt.Sprintf("run \"apptainer instance stop %s\" first", name),
		"an Apptainer instance named %q runs that boxrun did not start", name)
}
