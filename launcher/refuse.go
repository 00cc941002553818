package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// refuse looks for all that would keep the profile from working on this host, before anything is changed. Every
// problem found is reported.
func (l *Launcher) refuse(k *netsetup.Kernel, p profiles.Profile) error {
	return errors.Join(refuseImage(p, l.Search), l.refuseBuilt(k, p))
}

// refuseBuilt is refuse for a profile whose image is built before it starts.
func (l *Launcher) refuseBuilt(k *netsetup.Kernel, p profiles.Profile) error {
	_, err := lookApptainer()
	others, loadErr := l.others(p.Name)
	own, ownErr := l.load(p.Name)
	return errors.Join(err, loadErr, ignoreNotExist(ownErr),
		refuseBinds(p),
		l.refuseSecrets(p),
		refuseOverlay(p, others),
		refuseLimits(p),
		l.refuseInstance(p.Name),
		refuseHostMode(p),
		refuseNetwork(p, others),
		refusePorts(k, p, own, others),
	)
}

func invalid(hint, format string, args ...any) error {
	return &Problem{Kind: ErrInvalid, Text: fmt.Sprintf(format, args...), Hint: hint}
}

func refused(hint, format string, args ...any) error {
	return &Problem{Kind: ErrRefused, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// refuseImage wants a file, or a directory with an init in it. search is where a person finds profiles.
func refuseImage(p profiles.Profile, search profiles.Search) error {
	if isHello(p.Image) {
		return nil
	}
	info, err := os.Stat(p.Image)
	if errors.Is(err, fs.ErrNotExist) {
		return invalid(missingImageHint(p, search.Called(p)), "%s: image: no such file or directory: %q", p.File, p.Image)
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return nil
	}
	if !hasInit(p.Image) {
		return &Problem{Kind: ErrNotStarted,
			Text: fmt.Sprintf("%s: image: %q has no /sbin/init", p.File, p.Image),
			Hint: startHint("no /sbin/init", p.Image)}
	}
	return nil
}

func missingImageHint(p profiles.Profile, called string) string {
	if p.Build.Definition != "" {
		return fmt.Sprintf("run \"boxrun build %s\", or \"boxrun up --build %s\"", called, called)
	}
	return "put the image there, or correct image in " + p.File
}

// hasInit says whether a sandbox has a /sbin/init, following links as they lead inside it. What cannot be looked at
// is left for Apptainer to judge.
func hasInit(sandbox string) bool {
	root, err := os.OpenRoot(sandbox)
	if err != nil {
		return true
	}
	defer root.Close()
	_, err = root.Stat("sbin/init")
	return !errors.Is(err, fs.ErrNotExist)
}

// refuseBinds wants every source to be there, but for those that will be made, and none that the box could make a link of.
func refuseBinds(p profiles.Profile) error {
	var errs []error
	for i, b := range p.Storage.Binds {
		if _, err := os.Stat(b.Source); err != nil && !madeAtStart(p, b.Source) {
			errs = append(errs, invalid("make it, or take the bind out", "%s: storage.binds[%d]: no such file or directory: %q", p.File, i, b.Source))
			continue
		}
		errs = append(errs, refuseThrough(p, fmt.Sprintf("storage.binds[%d]", i), b.Source))
	}
	if p.Storage.Root == "overlay" {
		errs = append(errs, refuseThrough(p, "storage.overlay", p.Storage.Overlay))
	}
	return errors.Join(errs...)
}

// existing gives path, or the nearest directory above it that is there.
func existing(path string) string {
	for path != "/" {
		if _, err := os.Lstat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}

// refuseInstance wants no instance of that name that somebody started by hand. One of the box's own is cleared first.
func (l *Launcher) refuseInstance(name string) error {
	if b, err := l.load(name); err == nil {
		if b.foreign() {
			return foreignInstance(name)
		}
		return nil
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	r, err := readRecord(recordPath(l.Home, hostname, name))
	if err != nil || r.verify() != nil {
		return ignoreNotExist(err)
	}
	return foreignInstance(name)
}

func foreignInstance(name string) error {
	return refused(fmt.Sprintf("run \"apptainer instance stop %s\" first", name),
		"an Apptainer instance named %q runs that boxrun did not start", name)
}

// refuseNetwork wants the bridge as the boxes on it have it, a subnet that is nobody else's, and an external
// interface that exists.
func refuseNetwork(p profiles.Profile, others []*Box) error {
	n := p.Network
	if n.Mode != profiles.BridgeMode {
		return nil
	}
	mtu, err := bridgeMTU(n)
	if err != nil {
		return err
	}
	for _, b := range others {
		if err := agree(n, b); err != nil {
			return err
		}
	}
	if err := netsetup.Overlap(netsetup.Network{Bridge: n.Bridge, Subnet: n.Subnet, MTU: mtu}); err != nil {
		return refused("choose another network.subnet, and with it another network.bridge", "%s: network.subnet: %v", p.File, err)
	}
	return nil
}

// agree says where a profile wants another bridge than the box b, which is on it, has.
func agree(n profiles.Network, b *Box) error {
	have := b.Profile.Network
	if !b.bridged() || have.Bridge != n.Bridge {
		return nil
	}
	differs := func(key string, have, want any) error {
		return refused(fmt.Sprintf("use the same %s, or another bridge", key),
			"network.%s: %v, but box %q is on bridge %s with %v", key, want, b.Name, n.Bridge, have)
	}
	switch {
	case have.Subnet != n.Subnet:
		return differs("subnet", have.Subnet, n.Subnet)
	case have.MTU != n.MTU:
		return differs("mtu", have.MTU, n.MTU)
	case have.Offload != n.Offload:
		return differs("offload", have.Offload, n.Offload)
	}
	return nil
}

// refusePorts wants the host's ports to be free: of other boxes, of listening processes, and of other people's DNAT.
// What the box itself has, where one of that name runs (own, nil for none), will be free when it is replaced.
func refusePorts(k *netsetup.Kernel, p profiles.Profile, own *Box, others []*Box) error {
	if err := refusePublished(p, others); err != nil {
		return err
	}
	ports, err := publishedPorts(p.Network, p.Network.Ports...)
	if err != nil {
		return nil //nolint:nilerr // refuseNetwork tells of an interface that is not there
	}
	holders, err := k.Taken(ports)
	if err != nil {
		return err
	}
	var errs []error
	var told []string
	for _, h := range holders {
		line := fmt.Sprintf("host port %d/%s is taken by %s", h.Number, h.Proto, h.By)
		if own.holds(h.PID) || h.Passing || slices.Contains(told, line) { // up warns of the second
			continue
		}
		told = append(told, line) // once, on however many addresses
		errs = append(errs, refused("publish another host port, or free this one", "%s", line))
	}
	return errors.Join(errs...)
}

// refusePublished names the box that publishes one of the profile's host ports already.
func refusePublished(p profiles.Profile, others []*Box) error {
	var errs []error
	for _, b := range others {
		theirs := claimed(b.Profile.Network, p.Network.External, b.Profile.Network.Ports)
		for i, port := range p.Network.Ports {
			ours := claimed(p.Network, b.Profile.Network.External, []profiles.Port{port})
			if number, ok := meet(ours, theirs); ok {
				errs = append(errs, refused(fmt.Sprintf("take another host port, or run \"boxrun down %s\" first", b.Name),
					"%s: network.ports[%d]: host port %d/%s is taken by box %q", p.File, i, number, port.Proto, b.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// claimed gives ports of a profile where they are published, or may be: the addresses of network.external come and go, but
// beside another box's external interface they are apart from that one's, and on the same they are not.
func claimed(n profiles.Network, beside string, ports []profiles.Port) []netsetup.Port {
	published, err := publishedPorts(n, ports...)
	if n.External == "" || err == nil && len(published) >= len(ports) && n.External != beside {
		return published
	}
	if beside != "" && n.External != beside {
		ports = slices.DeleteFunc(slices.Clone(ports), func(p profiles.Port) bool { return !p.HostIP.IsValid() })
	}
	return hostPorts(ports)
}

// meet gives the first host port that both publish on one address.
func meet(ours, theirs []netsetup.Port) (number uint16, ok bool) {
	for _, a := range ours {
		for _, b := range theirs {
			if number, ok = profiles.Port(a).Overlap(profiles.Port(b)); ok {
				return number, true
			}
		}
	}
	return 0, false
}
