package offload

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// Set is a set of features to be turned off together.
type Set struct {
	Typed string // in the words of ethtool(8)
	has   func(feature string) bool
}

// Everything is all features to leave a packet unfinished: checksums, segments, pieces.
func Everything() Set {
	return Set{"tx off rx off sg off gso off", func(feature string) bool {
		return checksum(feature) || // tx
			feature == "rx-checksum" || // rx
			strings.HasPrefix(feature, "tx-scatter-gather") || // sg
			feature == "tx-generic-segmentation" // gso
	}}
}

// Checksums are checksums of packets sent. Without them the kernel turns off more.
func Checksums() Set { return Set{"tx off", checksum} }

func checksum(feature string) bool { return strings.HasPrefix(feature, "tx-checksum-") }

// On returns the features of the set that are on and not fixed by the driver, sorted. What counts is whether a feature is
// requested: a bridge's feature is in force only while all of its ports have the feature too.
func (s Set) On(eth *ethtool.Ethtool, device string) ([]string, error) {
	return s.among(eth, device, func(f ethtool.FeatureState) bool { return f.Requested && f.Available && !f.NeverChanged })
}

// Changeable returns the features of the set not fixed by the driver, sorted.
func (s Set) Changeable(eth *ethtool.Ethtool, device string) ([]string, error) {
	return s.among(eth, device, func(f ethtool.FeatureState) bool { return f.Available && !f.NeverChanged })
}

// Kept returns the features of the set that stay on against everybody's wish, or because the driver has fixed them.
func (s Set) Kept(eth *ethtool.Ethtool, device string) ([]string, error) {
	return s.among(eth, device, func(f ethtool.FeatureState) bool {
		return f.Active && (!f.Requested || !f.Available || f.NeverChanged)
	})
}

// among returns the features of the set in a wanted state, sorted; none of a device without features.
func (s Set) among(eth *ethtool.Ethtool, device string, wanted func(ethtool.FeatureState) bool) ([]string, error) {
	states, err := eth.FeaturesWithState(device)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	var names []string
	for name, state := range states {
		if s.has(name) && wanted(state) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

// Complete has a device in the caller's network send packets with their checksums, as far as the driver does so: to
// refuse is no error, as of [Change].
func Complete(device string) error {
	eth, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("opening ethtool: %w", err)
	}
	defer eth.Close()
	on, err := Checksums().On(eth, device)
	if err != nil || len(on) == 0 {
		return err
	}
	return Change(eth, device, on, false)
}

// Change turns features of a device on or off, as far as the driver does so.
func Change(eth *ethtool.Ethtool, device string, features []string, on bool) error {
	config := map[string]bool{}
	for _, name := range features {
		config[name] = on
	}
	err := eth.Change(device, config)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
