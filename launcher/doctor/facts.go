package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"boxrun/launcher"
	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/network"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/outsider"
	"boxrun/profiles"
)

// facts is what several looks need.
type facts struct {
	store  *box.Store
	root   string     // "/"; files of the host are read below this directory
	boxes  []*box.Box // all boxes with a readable state, by name
	unread []string   // boxes with unreadable records

	// read at the first use
	firewall  func() (firewall.State, error)
	apptainer func() (apptainer.Installation, error)
	external  func() (netsetup.External, error)

	outsider  *outsider.Outsider // the network of test clients; nil where the network could not be made
	noOutside string             // why outsider is nil
}

// newFacts reads the boxes. Unreadable boxes are not an error: their names go to unread.
func newFacts(l *launcher.Launcher) (*facts, error) {
	boxes, err := l.All()
	if err != nil && !errors.Is(err, box.ErrUnreadable) {
		return nil, err
	}
	return &facts{
		store: l.Store, root: "/", boxes: boxes, unread: l.Unread(),
		firewall:  sync.OnceValues(firewall.Read),
		apptainer: sync.OnceValues(apptainer.ReadInstallation),
		external:  sync.OnceValues(netsetup.DefaultExternal),
		noOutside: "no box is to be reached",
	}, nil
}

// openOutside makes the network for test clients, if there is a running box on a bridge among boxes. The returned function
// removes the network.
func (f *facts) openOutside(boxes []*box.Box) (takeAway func()) {
	if !slices.ContainsFunc(boxes, func(b *box.Box) bool { return b.Alive() && b.Bridged() }) {
		return func() {}
	}
	mtu := 1500
	if e, err := f.external(); err == nil && e.MTU > 0 {
		mtu = min(mtu, e.MTU)
	}
	o, err := outsider.Open(mtu - 100)
	if err != nil {
		f.noOutside = err.Error()
		return func() {}
	}
	f.outsider = o
	return func() {
		if err := o.Close(); err != nil {
			f.store.Notef("warning: %v", err)
		}
	}
}

// networks returns the networks of the boxes without duplicates. Where no box is on a bridge, the default network is
// returned.
func (f *facts) networks() []netsetup.Network {
	var networks []netsetup.Network
	for _, b := range f.boxes {
		n := network.Of(f.store, b)
		same := func(other netsetup.Network) bool { return other.Bridge == n.Bridge }
		if b.Bridged() && !slices.ContainsFunc(networks, same) {
			networks = append(networks, n)
		}
	}
	if len(networks) == 0 {
		networks = append(networks, network.Of(f.store, &box.Box{Profile: profiles.Default()}))
	}
	return networks
}

// names returns the names of the boxes that has holds for.
func (f *facts) names(has func(*box.Box) bool) []string {
	return box.Names(slices.DeleteFunc(slices.Clone(f.boxes), func(b *box.Box) bool { return !has(b) }))
}

func (f *facts) path(name string) string { return filepath.Join(f.root, name) }

// line returns the text of a small file below f.root, without spaces around.
func (f *facts) line(name string) (string, error) {
	text, err := os.ReadFile(f.path(name))
	return strings.TrimSpace(string(text)), err
}

// number returns the number in a small file below f.root.
func (f *facts) number(name string) (int, error) {
	text, err := f.line(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// device returns the interface of the host's default route. For a host without a route eth0 stands for any device.
func (f *facts) device() string {
	if e, err := f.external(); err == nil && e.Name != "" {
		return e.Name
	}
	return "eth0"
}
