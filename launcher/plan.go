package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/confine"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/hello"
	"boxrun/launcher/lan"
	"boxrun/launcher/network"
	"boxrun/launcher/storage"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/netsetup/offload"
	"boxrun/profiles"
)

// facts are what a start depends on beside the profile and the other boxes: looked up once, before any change.
type facts struct {
	apptainer string            // path of the command
	site      string            // path of the site's apptainer.conf
	siteText  string            // content of the site's apptainer.conf
	leases    []string          // lease directories of the site's own networks on the box's bridge
	systemd   bool              // systemd runs the host
	unit      string            // service the box will live in; "" for none
	external  netsetup.External // interface from which packets of the box leave the host; zero for none
	mtu       int               // of the box's bridge; 0 for none
	parent    string            // device of the host below a box on the LAN; "" for a box elsewhere
	need      offload.Need      // of the uplinks of the host
	resolvers conf.Resolvers
	machine   []string          // variable with the machine ID of the box; nil on a host without an ID
	hello     hello.Host        // zero for an image other than builtin:hello
	devices   []confine.Device  // of the host, for the box
	secrets   map[string][]byte // contents by name; nil for a dry run by others than root
	force     bool              // the start takes an overlay over from another machine
}

// look looks the facts up, except the secrets. The error reports every problem found.
func (l *Launcher) look(ctx context.Context, p profiles.Profile) (facts, error) {
	f := facts{systemd: units.Booted(), unit: units.For(l.Caller, p)}
	var siteErr, externalErr, parentErr, mtuErr, needErr, resolversErr, helloErr, devicesErr error
	path, err := apptainer.Look()
	if err == nil {
		f.apptainer = path
		if siteErr = f.lookSite(ctx, p.Network.Bridge); siteErr == nil {
			siteErr = lan.RefusePlugins(ctx, p, path, f.siteText)
		}
	}
	if f.external, externalErr = network.ExternalAtStart(p.Network); externalErr == nil {
		f.mtu, mtuErr = network.BridgeMTU(p.Network, f.external)
	}
	f.parent, parentErr = lan.Parent(p)
	f.need, needErr = network.NeedOf(p.Network)
	f.resolvers, resolversErr = conf.LookResolvers(p)
	if box.IsHello(p.Image) {
		f.hello, helloErr = hello.Look()
	}
	f.devices, devicesErr = confine.LookDevices(p)
	if id, err := box.MachineID(p.Name); err == nil { // a host without an ID gives none
		f.machine = []string{"container_uuid=" + id}
	}
	return f, errors.Join(err, siteErr, externalErr, parentErr, mtuErr, needErr, resolversErr, helloErr, devicesErr)
}

// lookSite reads the site's apptainer.conf, and finds the site's own networks on a bridge.
func (f *facts) lookSite(ctx context.Context, bridge string) (err error) {
	if f.site, err = apptainer.SiteConf(ctx, f.apptainer); err != nil {
		return err
	}
	text, err := os.ReadFile(f.site)
	if err != nil {
		return fmt.Errorf("reading the site's configuration of Apptainer: %w", err)
	}
	f.siteText = string(text)
	f.leases = apptainer.LeaseDirs(f.site, f.siteText, bridge)
	return nil
}

// wanted is all that a start puts on the host for a box with an address: prepare and boot make it so, startCommands
// prints the same. The rules of the box come later: they need the address and the veth that the box has got in the end.
type wanted struct {
	box       *box.Box
	files     []files.Set
	dirs      []storage.Dirs
	journal   storage.Memory
	claim     *storage.Claim
	apptainer string   // path of the command
	argv      []string // command line that boots the box, from "apptainer" on
	env       []string // of the command line, and of the box's init
}

// plan returns what a start of box b puts on the host. The box's hosts file names its neighbours among boxes.
func plan(s *box.Store, p profiles.Profile, b *box.Box, boxes []*box.Box, f facts) wanted {
	told, dir, bare := conf.Told(b, p, f.resolvers, boxes), s.ConfDir(b.Name), box.IsHello(p.Image)
	memory := storage.JournalMemory(s, p)
	start := apptainer.Start{
		Conf: s.Conf(), Profile: p, Image: p.Image, Network: networkName(s, b), LAN: lan.NameBeside(b), Addr: b.Addr,
		Binds:   append(told.Binds(dir), slices.Concat(conf.SecretBinds(s, p), storage.JournalBinds(p), memory.Binds())...),
		Confine: confine.Flags(p, s.BoxDir(b.Name), s.Exe),
	}
	sets := []files.Set{
		f.apptainerConf(s), told.At(dir), conf.Secrets(s, p, f.secrets), confine.Files(p, f.devices, s.BoxDir(b.Name)),
		lan.Conflist(s, b),
	}
	if bare {
		start.Image, start.Confine = s.HelloRoot(b.Name), confine.Flags(p, s.BoxDir(b.Name), "")
		start.Binds = append(start.Binds, f.hello.Binds(s.Exe)...)
		sets = append(sets, f.hello.Root(start.Image))
	}
	return wanted{
		box: b, files: sets, dirs: storage.Needed(p), journal: memory, claim: storage.ClaimOf(b, f.force),
		apptainer: f.apptainer, argv: start.Argv(),
		env: slices.Concat(apptainer.Environment(s.Home), f.machine, confine.Environment(p, bare, network.Inside6(b),
			network.Outward(p.Network, f.need))),
	}
}

// networkName returns the name of the first CNI network of a box.
func networkName(s *box.Store, b *box.Box) string {
	if b.Bridged() {
		return network.Of(s, b).Name()
	}
	return lan.Name(b.Name)
}

// apptainerConf returns boxrun's apptainer.conf: the site's own, changed so that Apptainer finds boxrun's conflists.
func (f facts) apptainerConf(s *box.Store) files.Set {
	path, cni := s.Conf(), s.Path("cni")
	return files.Set{Files: []files.File{files.Dir(filepath.Dir(path)), {
		Path: path, Mode: 0o644, Whole: true,
		Content: apptainer.Configuration(f.siteText, cni, f.systemd),
		Typed:   apptainer.EditCommand(f.site, cni, f.systemd) + " > " + files.Quote(path),
	}}}
}

// service returns the command line for systemd, which wants a path.
func (w wanted) service() []string { return append([]string{w.apptainer}, w.argv[1:]...) }

// prepareImage checks, makes or grows the overlay image, however long that takes.
func (w wanted) prepareImage(ctx context.Context, s *box.Store) error {
	recheck, sizing := storage.RecheckOf(w.box.Profile), storage.SizingOf(w.box)
	if recheck == nil && sizing == nil {
		return nil
	}
	return units.Prolong(s, w.box.Profile, func() error {
		lines, err := recheck.Do(ctx)
		for _, line := range lines {
			s.Notef("%s: e2fsck: %s", w.box.Name, line)
		}
		if err != nil {
			return err
		}
		line, err := sizing.Do(ctx, s)
		if line != "" {
			s.Notef("%s: %s", w.box.Name, line)
		}
		return err
	})
}

// prepare writes the files and makes the directories of a start. It also removes Apptainer's record of a dead instance
// of the box's name. A live instance of the name is refused, and marked in the box for the clearing to spare it.
func (w wanted) prepare(ctx context.Context, s *box.Store) error {
	for _, set := range w.files {
		if err := set.Write(); err != nil {
			return err
		}
	}
	if err := fault.Each(w.dirs, func(d storage.Dirs) error { return d.Make(s, w.box) }); err != nil {
		return err
	}
	if err := w.journal.Make(); err != nil {
		return err
	}
	if err := w.claim.Make(); err != nil {
		return err
	}
	if err := w.prepareImage(ctx, s); err != nil {
		return err
	}
	if r, err := apptainer.ReadRecord(w.box.Record); err == nil && r.Verify() == nil {
		w.box.Stranger = true
		return foreignInstance(w.box.Name)
	}
	return os.RemoveAll(filepath.Dir(w.box.Record))
}

// namesAround returns the hosts files of others on the bridge of b, as they are when b comes or goes: they name the
// given boxes.
func namesAround(s *box.Store, b *box.Box, others, boxes []*box.Box) files.Set {
	var set files.Set
	for _, other := range others {
		if b.Bridged() && conf.Named(other) && other.Profile.Network.Bridge == b.Profile.Network.Bridge {
			set.Files = append(set.Files, conf.HostsFile(s, other, boxes))
		}
	}
	return set
}
