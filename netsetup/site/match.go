package site

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Device is what a [Match] of systemd.network(5) asks about. The device need not exist yet.
type Device struct {
	Name string
	Type string // "ether", "bridge": the column TYPE of networkctl
	Kind string // "veth", "bridge": the kind of the link, and the name of its driver
}

// Takes returns the file by which systemd-networkd takes a device off its bridge as soon as the device comes: the first
// file whose [Match] fits, if the file's name sorts before own. The result is "" where that file leaves the device alone
// (Unmanaged=yes, KeepMaster=yes), where no file fits, and on a host without networkd since boot. Root is "/".
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
func networkFile(root, file string) ([]option, error) {
	drops, err := dropIns(root, filepath.Base(file))
	if err != nil {
		return nil, err
	}
	var all []option
	for _, file := range append([]string{file}, drops...) {
		options, err := optionsOf(file)
		if err != nil {
			return nil, err
		}
		all = append(all, options...)
	}
	return all, nil
}

// optionsOf returns the options of one file; none of a link to nowhere.
func optionsOf(file string) ([]option, error) {
	text, err := os.ReadFile(file)
	return readOptions(string(text)), ignoreAbsent(err)
}

// option is a line KEY=VALUE of a file of systemd's.
type option struct{ section, key, value string }

// readOptions reads a text by systemd.syntax(7): what is no option and no section is passed over, a comment also inside a
// line that goes on after a backslash. Package unit of go-systemd refuses the whole text for such a line.
func readOptions(text string) []option {
	var options []option
	section, begun := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" && begun == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if before, more := strings.CutSuffix(line, `\`); more {
			begun += before + " "
			continue
		}
		line, begun = begun+line, ""
		name, isSection := strings.CutPrefix(line, "[")
		switch key, value, ok := strings.Cut(line, "="); {
		case isSection:
			section = strings.TrimSuffix(name, "]")
		case ok:
			options = append(options, option{section, strings.TrimSpace(key), strings.TrimSpace(value)})
		}
	}
	return options
}

func unmanaged(o option) bool {
	yes := []string{"1", "yes", "y", "true", "t", "on"} // as systemd reads a boolean
	leaves := o.section == "Link" && o.key == "Unmanaged" || o.section == "Network" && o.key == "KeepMaster"
	return leaves && slices.Contains(yes, strings.ToLower(o.value))
}

// Links are the files of systemd.link(5) of a host with udev, in the order of their names.
type Links []link

// link is a file, with its options and those of its drop-ins.
type link struct {
	file    string
	options []option
}

// ReadLinks reads the files of systemd.link(5); none on a host without udev. Root is "/".
func ReadLinks(root string) (Links, error) {
	if _, err := os.Stat(filepath.Join(root, "run/udev/control")); err != nil {
		return nil, ignoreAbsent(err)
	}
	files, err := filesOf(root, "systemd/network", ".link")
	var all Links
	for _, file := range files {
		options, readErr := networkFile(root, file)
		err = cmp.Or(err, readErr)
		all = append(all, link{"/" + strings.TrimLeft(strings.TrimPrefix(file, root), "/"), options})
	}
	return all, err
}

// Rename returns the file by which udev gives a device another name as soon as the device comes: the first file whose [Match]
// fits. The result is "" where that file leaves the name alone, and where no file fits.
func (all Links) Rename(d Device) string {
	i := slices.IndexFunc(all, func(l link) bool { return d.fits(l.options) })
	if i < 0 {
		return ""
	}
	name, policies := lastOf(all[i].options, "Link", "Name"), strings.Fields(lastOf(all[i].options, "Link", "NamePolicy"))
	if name == "" || name == d.Name || slices.Contains(policies, "keep") { // devices of programs have names to be kept
		return ""
	}
	return all[i].file
}

// lastOf returns the last value of a key in a section; "" for none.
func lastOf(options []option, section, key string) (value string) {
	for _, o := range options {
		if o.section == section && o.key == key {
			value = o.value
		}
	}
	return value
}

// fits reports whether the [Match] of a file fits a device: each key has to. A [Match] without keys fits nothing.
func (d Device) fits(options []option) bool {
	asked := map[string]string{} // a key's lines count as one list; an empty line begins the list anew
	for _, o := range options {
		switch {
		case o.section != "Match":
		case o.value == "":
			delete(asked, o.key)
		default:
			asked[o.key] += " " + o.value
		}
	}
	known := map[string]string{"Name": d.Name, "OriginalName": d.Name, "Type": d.Type, "Kind": d.Kind, "Driver": d.Kind}
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
