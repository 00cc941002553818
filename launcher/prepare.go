package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"boxrun/profiles"
)

// boxDir is what boxrun prepares for one box: its configuration, its secrets, and the root of builtin:hello.
func (s *Store) boxDir(name string) string { return s.path("boxes", name) }

func (s *Store) confDir(name string) string { return filepath.Join(s.boxDir(name), "conf") }

func (s *Store) helloRoot(name string) string { return filepath.Join(s.boxDir(name), "root") }

func isHello(image string) bool { return image == "builtin:hello" }

// told gives what the box is told by files, among boxes.
func (s *Store) told(b *Box, p profiles.Profile, boxes []*Box) (confDir, error) {
	names, err := s.resolvers(p)
	if err != nil {
		return confDir{}, err
	}
	c := confDir{
		Systemd: !isHello(p.Image), Hosts: hostsOf(b, boxes), Names: names,
		Environment: p.Systemd.Environment, Mask: p.Systemd.Mask, TasksHeld: p.Resources.PIDs > 0,
	}
	if p.Network.Mode == profiles.HostMode {
		c.Mask = slices.Concat(networkManagers(), c.Mask)
	}
	return c, nil
}

// startOf gives the command line's inputs of a box that has its address and is told c.
func (l *Launcher) startOf(b *Box, p profiles.Profile, c confDir) (start, error) {
	s := start{
		Conf: l.conf(), Profile: p, Image: p.Image, Network: l.network(b).Name(), Addr: b.Addr, DNS: c.Names.Servers,
		Binds: append(c.binds(l.confDir(b.Name)), l.secretBinds(p)...),
	}
	if !isHello(p.Image) {
		return s, nil
	}
	binds, err := helloBinds(l.Exe)
	s.Image = l.helloRoot(b.Name)
	s.Binds = append(s.Binds, binds...)
	return s, err
}

// prepare writes all that the start needs: the box's files, the configuration Apptainer is given, and the sandbox of
// builtin:hello; and it removes the record of an instance of that name that is dead.
func (l *Launcher) prepare(b *Box, p profiles.Profile) (start, error) {
	boxes, err := l.boxes()
	if err != nil {
		return start{}, err
	}
	c, err := l.told(b, p, boxes)
	if err != nil {
		return start{}, err
	}
	if err := c.write(l.confDir(b.Name)); err != nil {
		return start{}, err
	}
	if err := l.writeSecrets(p); err != nil {
		return start{}, err
	}
	if isHello(p.Image) {
		if err := makeHello(l.helloRoot(b.Name)); err != nil {
			return start{}, err
		}
	}
	if err := errors.Join(l.makeOverlay(b, p), l.makeDirs(b, p, "storage.binds", ownSources(p))); err != nil {
		return start{}, err
	}
	if r, err := readRecord(b.Record); err == nil && r.verify() == nil {
		b.Phase = Stopping // has the clearing leave alone what this start did not make
		return start{}, foreignInstance(b.Name)
	}
	if err := errors.Join(l.writeConf(), os.RemoveAll(filepath.Dir(b.Record))); err != nil {
		return start{}, err
	}
	return l.startOf(b, p, c)
}

// makeOverlay makes the directory of the box's overlay, and notes that before, so that a start that fails leaves none.
func (s *Store) makeOverlay(b *Box, p profiles.Profile) error {
	dir := b.overlay()
	if dir == "" {
		return nil
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		b.MadeOverlay = true
	}
	return s.makeDirs(b, p, "storage.overlay", []string{dir})
}

// removeMade removes the overlay that a start made which never came to run, and those directories it made that are empty.
func (b *Box) removeMade() error {
	if b.MadeOverlay && b.overlay() != "" {
		if err := os.RemoveAll(b.overlay()); err != nil {
			return err
		}
	}
	return removeEmptyDirs(b.MadeDirs)
}

// writeConf writes the apptainer.conf that finds boxrun's conflists: the site's own in all else.
func (l *Launcher) writeConf() error {
	text, err := l.confText()
	if err != nil {
		return err
	}
	return replaceIfChanged(l.conf(), []byte(text), 0o644)
}

func (l *Launcher) confText() (string, error) {
	file, err := l.site()
	if err != nil {
		return "", err
	}
	site, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading the site's configuration of Apptainer: %w", err)
	}
	return apptainerConf(string(site), l.path("cni"), systemdHost()), nil
}

// site gives the path of the site's own apptainer.conf.
func (l *Launcher) site() (string, error) {
	path, err := lookApptainer()
	if err != nil {
		return "", err
	}
	return siteConf(context.Background(), path)
}

// systemdHost says whether the host is run by systemd: sd_booted(3).
func systemdHost() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}
