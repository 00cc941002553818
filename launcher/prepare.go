package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/files"
	"boxrun/launcher/hello"
	"boxrun/launcher/network"
	"boxrun/launcher/storage"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

// startOf returns the inputs of Apptainer's command line for a box with an address and the configuration c.
func (l *Launcher) startOf(b *box.Box, p profiles.Profile, c conf.Dir) (apptainer.Start, error) {
	s := apptainer.Start{
		Conf: l.Conf(), Profile: p, Image: p.Image, Network: network.Of(l.Store, b).Name(), Addr: b.Addr, DNS: c.Names.Servers,
		Binds: append(c.Binds(l.ConfDir(b.Name)), conf.SecretBinds(l.Store, p)...),
	}
	if !box.IsHello(p.Image) {
		return s, nil
	}
	binds, err := hello.Binds(l.Exe)
	s.Image = l.HelloRoot(b.Name)
	s.Binds = append(s.Binds, binds...)
	return s, err
}

// prepare writes everything the start needs: the box's files, the configuration for Apptainer, and the sandbox of
// builtin:hello. prepare also removes Apptainer's record of a dead instance of the same name. For a live instance of
// the name, prepare returns the error of foreignInstance.
func (l *Launcher) prepare(b *box.Box, p profiles.Profile) (apptainer.Start, error) {
	boxes, err := l.All()
	if err != nil {
		return apptainer.Start{}, err
	}
	c, err := conf.Told(l.Store, b, p, boxes)
	if err != nil {
		return apptainer.Start{}, err
	}
	if err := c.Write(l.ConfDir(b.Name)); err != nil {
		return apptainer.Start{}, err
	}
	if err := conf.WriteSecrets(l.Store, p); err != nil {
		return apptainer.Start{}, err
	}
	if box.IsHello(p.Image) {
		if err := hello.Make(l.HelloRoot(b.Name)); err != nil {
			return apptainer.Start{}, err
		}
	}
	if err := errors.Join(storage.MakeOverlay(l.Store, b, p), storage.MakeDirs(l.Store, b, p, "storage.binds", storage.OwnSources(p))); err != nil {
		return apptainer.Start{}, err
	}
	if r, err := apptainer.ReadRecord(b.Record); err == nil && r.Verify() == nil {
		b.Phase = box.Stopping // the clearing then spares the instance, which this start did not make
		return apptainer.Start{}, foreignInstance(b.Name)
	}
	if err := errors.Join(l.writeConf(), os.RemoveAll(filepath.Dir(b.Record))); err != nil {
		return apptainer.Start{}, err
	}
	return l.startOf(b, p, c)
}

// writeConf writes boxrun's apptainer.conf: the site's own with the changes of Configuration, so that Apptainer finds
// boxrun's conflists.
func (l *Launcher) writeConf() error {
	text, err := l.confText()
	if err != nil {
		return err
	}
	return files.ReplaceIfChanged(l.Conf(), []byte(text), 0o644)
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
	return apptainer.Configuration(string(site), l.Path("cni"), units.Booted()), nil
}

// site returns the path of the site's own apptainer.conf.
func (l *Launcher) site() (string, error) {
	path, err := apptainer.Look()
	if err != nil {
		return "", err
	}
	return apptainer.SiteConf(context.Background(), path)
}
