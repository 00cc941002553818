package netsetup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// Features turns off a device's offload: some NICs drop forwarded packets when a virtual device left the checksum to
// them.
type Features struct {
	Device string   `json:"device"`
	Before []string `json:"before,omitempty"` // the features that were on, by the kernel's names
}

// offload is what is turned off, in the words of ethtool(8).
const offload = "tx off rx off sg off gso off"

// offloads reports whether ethtool(8) counts a feature, by the kernel's name, among tx, rx, sg and gso.
func offloads(feature string) bool {
	return strings.HasPrefix(feature, "tx-checksum-") || // tx
		feature == "rx-checksum" || // rx
		strings.HasPrefix(feature, "tx-scatter-gather") || // sg
		feature == "tx-generic-segmentation" // gso
}

func (f *Features) String() string { return "offload of " + f.Device }

// commands do not fail to restore what has gone: a veth dies with its box.
func (f *Features) commands() (up, down []string) {
	if len(f.Before) > 0 {
		down = []string{fmt.Sprintf("ethtool -K %s %s on 2>/dev/null || true", f.Device, strings.Join(f.Before, " on "))}
	}
	return []string{fmt.Sprintf("ethtool -K %s %s", f.Device, offload)}, down
}

// record notes only the features asked for. Turning these off drags others off, and turning these on again brings the
// others back.
func (f *Features) record(k *Kernel) (err error) {
	f.Before, err = f.turnedOn(k)
	return ignore(err, unix.ENODEV)
}

// turnedOn returns the features asked for that are on and not fixed by the driver. What counts is whether a feature is
// requested: a bridge's feature is in force only while all of its ports have it too.
func (f *Features) turnedOn(k *Kernel) ([]string, error) {
	return f.among(k, func(s ethtool.FeatureState) bool { return s.Requested && s.Available && !s.NeverChanged })
}

// Kept returns the features asked for that stay on against everybody's wish, or because the driver has fixed them.
// Apply and Drift leave such features aside, as nothing can be done: boxes work all the same on most hosts.
func (f *Features) Kept(k *Kernel) ([]string, error) {
	kept, err := f.among(k, func(s ethtool.FeatureState) bool {
		return s.Active && (!s.Requested || !s.Available || s.NeverChanged)
	})
	return kept, ignore(err, unix.ENODEV)
}

// among returns the features of the device that are asked for and in a wanted state, sorted.
func (f *Features) among(k *Kernel, wanted func(ethtool.FeatureState) bool) ([]string, error) {
	states, err := k.eth.FeaturesWithState(f.Device)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	var names []string
	for name, s := range states {
		if offloads(name) && wanted(s) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

func (f *Features) check(k *Kernel) ([]string, error) {
	names, err := f.turnedOn(k)
	switch {
	case errors.Is(err, unix.ENODEV):
		return []string{fmt.Sprintf("%s is missing, so its offload cannot be off", f.Device)}, nil
	case err != nil || len(names) == 0:
		return nil, err
	}
	return []string{fmt.Sprintf("offload of %s is on: %s", f.Device, strings.Join(names, ", "))}, nil
}

// ensure leaves on what the device refuses to turn off: check tells of such features, and most boxes never need them
// off.
func (f *Features) ensure(k *Kernel) error {
	names, err := f.turnedOn(k)
	if err != nil || len(names) == 0 {
		return err
	}
	return ignore(f.change(k, names, off), unix.EOPNOTSUPP, unix.EINVAL)
}

func (f *Features) undo(k *Kernel) error {
	if len(f.Before) == 0 {
		return nil
	}
	return ignore(f.change(k, f.Before, on), unix.ENODEV)
}

// state is what a feature is changed to.
type state bool

const (
	on  state = true
	off state = false
)

func (f *Features) change(k *Kernel, names []string, to state) error {
	config := map[string]bool{}
	for _, name := range names {
		config[name] = bool(to)
	}
	return k.eth.Change(f.Device, config)
}
