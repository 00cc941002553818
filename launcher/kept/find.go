package kept

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// Item is a directory or file a box left, or writes now.
type Item struct {
	Name    string    `json:"name"` // BOX/PART
	Box     string    `json:"box"`
	Path    string    `json:"path"`
	Bytes   int64     `json:"bytes"`            // on the disk
	Written time.Time `json:"written,omitzero"` // last change of a file inside
	UsedBy  string    `json:"used_by"`          // box with a record and the item; "" for no box
	Partly  bool      `json:"partly_removed"`   // a removal was cut short
}

// removing is the beginning of the name of an item while the item is removed. A file of such a name is nobody's data any
// more, and goes with the next removal.
const removing = ".boxrun-removing-"

// Places are where boxes leave their parts.
type Places struct {
	Store *box.Store
	Own   string // directory of the directories of boxes' own
}

// Of returns the places of this host.
func Of(s *box.Store) Places { return Places{s, filepath.Dir(profiles.OwnDir("box"))} }

// Find returns what boxes left, sorted by name; with names, what the boxes or items of these names left. Sizes and times
// are unknown until Measure. Error: ErrNotFound for a name of nothing.
func (p Places) Find(names []string) ([]Item, error) {
	boxes, err := p.Store.All()
	if err != nil { // an unreadable record may be of any box
		return nil, err
	}
	found := map[string]Item{}
	for _, item := range slices.Concat(p.ownItems(), profiled(p.Store)) {
		if _, taken := found[item.Name]; !taken {
			item.UsedBy = usedBy(item, boxes)
			found[item.Name] = item
		}
	}
	items := slices.SortedFunc(maps.Values(found), func(a, b Item) int { return cmp.Compare(a.Name, b.Name) })
	if len(names) == 0 {
		return items, nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(items, func(i Item) bool { return i.called(name) }) {
			return nil, nothingOf(name)
		}
	}
	return slices.DeleteFunc(items, func(i Item) bool {
		return !slices.ContainsFunc(names, i.called)
	}), nil
}

// nothingOf is the error for a name of nothing. A name without a part may be of a box that somebody means to be rid of.
func nothingOf(name string) error {
	hint := "\"boxrun kept list\" lists what is kept"
	if !strings.Contains(name, "/") {
		hint += fmt.Sprintf("; \"boxrun disable %s\" ends its starts at boot; a profile is a file of yours, and \"boxrun profile list\" has its path", name)
	}
	return &fault.Problem{Kind: fault.ErrNotFound, Text: "nothing of " + name + " is kept", Hint: hint}
}

// called reports whether a person means the item by name: the name of the item or of its box.
func (i Item) called(name string) bool { return i.Name == name || i.Box == name }

// itemAt returns the item at a path; ok is false where there is nothing.
func itemAt(boxName, part, path string) (Item, bool) {
	_, err := os.Lstat(path)
	return Item{Name: boxName + "/" + part, Box: boxName, Path: path}, err == nil
}

// ownItems returns what is in the directories of boxes' own, of boxes without a profile as well.
func (p Places) ownItems() []Item {
	var items []Item
	owners, _ := os.ReadDir(p.Own) // no directory, no items
	for _, owner := range owners {
		parts, _ := os.ReadDir(filepath.Join(p.Own, owner.Name()))
		for _, part := range parts {
			item, ok := itemAt(owner.Name(), strings.TrimPrefix(part.Name(), removing), filepath.Join(p.Own, owner.Name(), part.Name()))
			if item.Partly = strings.HasPrefix(part.Name(), removing); item.Partly {
				item.Name += " (removed in part)"
			}
			if ok {
				items = append(items, item)
			}
		}
		items = append(items, journalOf(owner.Name())...)
	}
	return items
}

// profiled returns what boxes of profiles left elsewhere: overlays, journals, replaced images.
func profiled(s *box.Store) []Item {
	var items []Item
	found, _ := s.Search.List() // what can be read
	for _, f := range found {
		p, err := profiles.Ref{File: f.File}.Read()
		if err != nil || f.ShadowedBy != "" {
			continue
		}
		items = append(items, journalOf(p.Name)...)
		if p.Storage.Root == "overlay" {
			if item, ok := itemAt(p.Name, "overlay", p.Storage.Overlay); ok {
				items = append(items, item)
			}
		}
		old, _ := box.KeptImages(files.Resolved(p.Image)) // what can be read
		for _, path := range old {
			item, _ := itemAt(p.Name, "image"+filepath.Ext(path), path)
			items = append(items, item)
		}
	}
	return items
}

// journalOf returns the journal of a box kept by the host.
func journalOf(name string) []Item {
	id, err := box.MachineID(name)
	if err != nil {
		return nil
	}
	if item, ok := itemAt(name, "journal", filepath.Join(box.JournalDir, id)); ok {
		return []Item{item}
	}
	return nil
}

// usedBy returns the name of a box with a record and with the item among its own paths, or around or below them.
func usedBy(item Item, boxes []*box.Box) string {
	for _, b := range boxes {
		if b.Name == item.Box {
			return b.Name
		}
		paths := []string{b.Profile.Image, box.KeptImage(files.Resolved(b.Profile.Image), b.Image.Inode), b.Overlay()}
		for _, bind := range b.Profile.Storage.Binds {
			paths = append(paths, bind.Source)
		}
		if slices.ContainsFunc(paths, func(path string) bool { return path != "" && meet(path, item.Path) }) {
			return b.Name
		}
	}
	return ""
}

// meet reports whether two paths are the same, or either lies below the other, links followed.
func meet(a, b string) bool {
	a, b = files.Resolved(a)+"/", files.Resolved(b)+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// Measure fills in the size and age of an item. Links are not followed. What cannot be read counts as empty.
func Measure(item *Item) {
	root, err := os.OpenRoot(filepath.Dir(item.Path))
	if err != nil {
		return
	}
	defer root.Close()
	_ = fs.WalkDir(root.FS(), filepath.Base(item.Path), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return skipUnread(err)
		}
		info, err := d.Info()
		if err != nil {
			return skipUnread(err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			item.Bytes += st.Blocks * 512
		}
		if info.ModTime().After(item.Written) {
			item.Written = info.ModTime()
		}
		return nil
	})
}

// skipUnread lets a walk go on after a file has gone meanwhile or cannot be read.
func skipUnread(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
