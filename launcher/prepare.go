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

// boxDir is the directory of what boxrun prepares for a box: its configuration, its secrets, and the root of
// builtin:hello.
func (s *Store) boxDir(name string) string { return s.path("boxes", name) }

// confDir is the directory of the files bound into a box.
func (s *Store) confDir(name string) string { return filepath.Join(s.boxDir(name), "conf") }

// helloRoot is the directory of the sandbox of builtin:hello, for a single box.
func (s *Store) helloRoot(name string) string { return filepath.Join(s.boxDir(name), "root") }

func isHello(image string) bool { return image == "builtin:hello" }

// told returns the configuration the box gets by files. Its hosts file names the neighbours among boxes.
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

// startOf returns the inputs of Apptainer's command line for a box with an address and the configuration c.
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

// prepare writes everything the start needs: the box's files, the configuration for Apptainer, and the sandbox of
// builtin:hello. prepare also removes Apptainer's record of a dead instance of the same name. For a live instance of
// the name, prepare returns the error of foreignInstance.
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
		b.Phase = Stopping // the clearing then spares the instance, which this start did not make
		return start{}, foreignInstance(b.Name)
	}
	if err := errors.Join(l.writeConf(), os.RemoveAll(filepath.Dir(b.Record))); err != nil {
		return start{}, err
	}
	return l.startOf(b, p, c)
}

// makeOverlay makes the directory of the box's overlay. A directory missing before is recorded before being made, so
// that a failed start leaves none behind.
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

// removeMade removes what a failed start made: its overlay, and its directories if empty.
func (b *Box) removeMade() error {
	if b.MadeOverlay && b.overlay() != "" {
		if err := os.RemoveAll(b.overlay()); err != nil {
			return err
		}
	}
	return removeEmptyDirs(b.MadeDirs)
}

// writeConf writes boxrun's apptainer.conf: the site's own with the changes of apptainerConf, so that Apptainer finds
// boxrun's conflists.
func (l *Launcher) writeConf() error {
	text, err := l.confText()
	if err != nil {
		return err
	}
	return replaceIfChanged(l.conf(), []byte(text), 0o644)
}

// confText returns the text of boxrun's apptainer.conf.
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

// site returns the path of the site's own apptainer.conf.
func (l *Launcher) site() (string, error) {
	path, err := lookApptainer()
	if err != nil {
		return "", err
	}
	return siteConf(context.Background(), path)
}

// systemdHost reports whether systemd runs the host, by the test of sd_booted(3).
func systemdHost() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}
