package site

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
)

// Device is what a [Match] of systemd.network(5) asks about. The device need not exist yet.
type Device struct {
	Name string
	Type string // "ether", "bridge": the column TYPE of networkctl
	Kind string // "veth", "bridge": the kind of the link, and the name of its driver
}

// Takes returns the file by which systemd-networkd takes a device as soon as the device comes: the first file whose
// [Match] fits, if the file's name sorts before own. The result is "" where that file leaves the device alone
// (Unmanaged=yes), where no file fits, and on a host without networkd since boot. Root is "/".
//
// By systemd.network(5) files are read in the order of their names, and the first match counts alone. A [Match] with a
// key beside Name, Type, Kind and Driver, such as an address or a path, counts as no match.
func Takes(root string, d Device, own string) (string, error) {
	if _, err := os.Stat(filepath.Join(root, "run/systemd/netif")); err != nil {
		return "", ignoreAbsent(err)
	}
	files, err := filesOf(root, "systemd/network", ".network")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		if filepath.Base(file) >= own {
			break
		}
		options, err := networkFile(root, file)
		switch {
		case err != nil:
			return "", err
		case !d.fits(options):
		case slices.ContainsFunc(options, unmanaged):
			return "", nil
		default:
			return "/" + strings.TrimLeft(strings.TrimPrefix(file, root), "/"), nil
		}
	}
	return "", nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// networkFile returns the options of a file and of the file's drop-ins.
func networkFile(root, file string) ([]*unit.UnitOption, error) {
	drops, err := dropIns(root, filepath.Base(file))
	if err != nil {
		return nil, err
	}
	var all []*unit.UnitOption
	for _, file := range append([]string{file}, drops...) {
		options, err := optionsOf(file)
		if err != nil {
			return nil, err
		}
		all = append(all, options...)
	}
	return all, nil
}

// optionsOf returns the options of one file. A link to nowhere has none, nor has a file that networkd cannot read either.
func optionsOf(file string) ([]*unit.UnitOption, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, ignoreAbsent(err)
	}
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	if err != nil {
		return nil, nil //nolint:nilerr // networkd passes over the file, too
	}
	return options, nil
}

func unmanaged(o *unit.UnitOption) bool {
	yes := []string{"1", "yes", "y", "true", "t", "on"} // as systemd reads a boolean
	return o.Section == "Link" && o.Name == "Unmanaged" && slices.Contains(yes, strings.ToLower(o.Value))
}

// fits reports whether the [Match] of a file fits a device: each key has to. A [Match] without keys fits nothing.
func (d Device) fits(options []*unit.UnitOption) bool {
	asked := map[string]string{} // a key's lines count as one list; an empty line begins the list anew
	for _, o := range options {
		switch {
		case o.Section != "Match":
		case o.Value == "":
			delete(asked, o.Name)
		default:
			asked[o.Name] += " " + o.Value
		}
	}
	known := map[string]string{"Name": d.Name, "Type": d.Type, "Kind": d.Kind, "Driver": d.Kind}
	for key, patterns := range asked {
		if word, ok := known[key]; !ok || !fitsAny(strings.Fields(patterns), word) {
			return false
		}
	}
	return len(asked) > 0
}

// fitsAny reports whether one of the patterns fits a word. A "!" before the first turns the answer round.
func fitsAny(patterns []string, word string) bool {
	first, not := strings.CutPrefix(patterns[0], "!")
	for _, pattern := range append([]string{first}, patterns[1:]...) {
		// fnmatch(3) has [!a] for a set's opposite, path.Match [^a].
		if ok, err := path.Match(strings.ReplaceAll(pattern, "[!", "[^"), word); ok && err == nil {
			return !not
		}
	}
	return not
}
