package box

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/list"
	"boxrun/launcher/process"
	"boxrun/launcher/say"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// NoteCgroups notes in the box whether its start makes the cgroup of instances, or another box's did. The last of these
// boxes takes the cgroup along.
func (b *Box) NoteCgroups(others []*Box) {
	dir := process.InstancesCgroup()
	_, err := os.Lstat(dir)
	b.MadeCgroups = dir != "" && errors.Is(err, fs.ErrNotExist) ||
		slices.ContainsFunc(others, func(other *Box) bool { return other.MadeCgroups && other.SameBoot() })
}

// Overlay returns the overlay directory of the profile, "" for other kinds of root.
func (b *Box) Overlay() string {
	if b.Profile.Storage.Root != "overlay" {
		return ""
	}
	return b.Profile.Storage.Overlay
}

// Loses says behind a word of a start anew what goes with the box's memory: what the box wrote to a root of tmpfs. Loses is ""
// where nothing goes.
func (b *Box) Loses() string {
	if b.Profile.Storage.Root != "tmpfs" {
		return ""
	}
	return "; what it wrote to its root, a tmpfs, goes"
}

// Losing says, before boxes of these names stop, what goes with them: what they wrote to a root of tmpfs. Losing is "" where
// nothing goes. Boxes that do not run have lost all of that, and builtin:hello writes nothing.
func (s *Store) Losing(names []string) string {
	boxes, _ := s.Glance() // boxes that could be read are returned beside an error
	boxes = slices.DeleteFunc(boxes, func(b *Box) bool {
		return !slices.Contains(names, b.Name) || b.Loses() == "" || IsHello(b.Profile.Image) || !b.Alive()
	})
	going := say.Listed(Names(boxes), 3)
	switch len(boxes) {
	case 0:
		return ""
	case 1:
		return going + ": what it wrote to its root goes: storage.root is \"tmpfs\""
	}
	return going + ": what they wrote to their roots goes: storage.root is \"tmpfs\""
}

// SameBoot reports whether the box was started in this boot of the host.
func (b *Box) SameBoot() bool {
	id, err := process.BootID()
	return err == nil && id == b.BootID
}

// Foreign reports whether Apptainer's record of the box is of a running instance other than the box: somebody started
// an instance of the same name by hand after the box had ended. For a box still starting, with its init unknown, a
// running instance counts as the box's own.
func (b *Box) Foreign() bool {
	if b.Stranger {
		return true
	}
	if b.Phase == Starting && b.Init.PID <= 1 {
		return false
	}
	r, err := apptainer.ReadRecord(b.Record)
	return err == nil && r.PID != b.Init.PID && r.Verify() == nil
}

// IsHello reports whether an image is builtin:hello, which boxrun makes itself.
func IsHello(image string) bool { return image == "builtin:hello" }

// Phase is the stage of the work on a box. boxrun saves a phase before the work of the phase begins: the file left by a
// killed boxrun shows what may be left of the box.
type Phase string

// A box is Starting until its rules are in place, and Stopping from the moment its init is told to go.
const (
	Starting Phase = "starting"
	Running  Phase = "running"
	Stopping Phase = "stopping"
)

// Box is the state of a box: Dir/boxes/NAME.json. Everyone can read the file, so the values of environment variables
// are left out.
type Box struct {
	Name    string           `json:"name"`
	Phase   Phase            `json:"phase"`
	Profile profiles.Profile `json:"profile"` // as started
	Hash    string           `json:"hash"`    // of the whole profile, without those values
	BootID  string           `json:"boot_id"`
	Started time.Time        `json:"started"`

	Record  string `json:"record"`   // Apptainer's file about the instance; kept as a path, because hostnames change
	Log     string `json:"log"`      // Apptainer's .err log
	LogFrom int64  `json:"log_from"` // where the lines of this start begin in Log, in bytes
	OutFrom int64  `json:"out_from"` // the same for the .out log beside Log

	Init   process.Process `json:"init"`   // zero until Apptainer's record was seen
	Master process.Process `json:"master"` // the same
	Cgroup string          `json:"cgroup"` // the box's own, below /sys/fs/cgroup; "" for none

	Worker process.Process `json:"worker,omitzero"` // the boxrun at work on the box; zero in phase Running

	Unit     string `json:"unit"`     // service of the host's systemd around Apptainer; "" for none
	Restarts int    `json:"restarts"` // systemd's starts of the box since somebody brought the box up

	Image ImageID `json:"image,omitzero"` // the image at the start

	HooksDue bool `json:"hooks_due,omitempty"` // hooks.post_up has not run to its end since the start

	MadeOverlay bool     `json:"made_overlay,omitempty"` // boxrun made the overlay's directory, and the box never ran
	MadeDirs    []string `json:"made_dirs,omitempty"`    // storage directories boxrun made; the box never ran

	MadeCgroups bool `json:"made_cgroups,omitempty"` // this start, or that of a box beside it, made process.InstancesCgroup

	OtherLeases []string `json:"other_leases,omitempty"` // lease directories of the site's own networks on the bridge

	MTU   int           `json:"mtu"`
	Addr  netip.Addr    `json:"addr"` // reserved from phase starting on
	Veth  string        `json:"veth"`
	Ports netsetup.Plan `json:"ports"` // undo log of the box's rules

	Parent string     `json:"parent,omitempty"`  // device of the host below a box on the LAN
	Second netip.Addr `json:"lan_addr,omitzero"` // on the LAN beside the bridge; zero while a DHCP client in the box has none

	LAN6 []netip.Addr `json:"lan_addr6,omitempty"` // of IPv6 on the LAN; those of the profile, or learnt by the box

	Anew     bool `json:"-"` // cleared for a start anew: the journal in memory stays
	Foreseen bool `json:"-"` // the box runs, as an earlier look found, or would run by now in a DryRun
	Stranger bool `json:"-"` // the start found an instance of the box's name that the start did not make
}

// Alive reports whether the box's init still runs, in this boot. A later process with the same number does not count.
func (b *Box) Alive() bool { return b.SameBoot() && b.Init.PID > 1 && b.Init.Alive() }

// State returns the box's phase, or crashed. A box has crashed if it should run and does not, or if nobody works on its
// start or stop any more. State looks at the record and /proc alone, because ps is for everybody and the lock is
// root's.
func (b *Box) State() string {
	if b.Phase == Running && !b.Alive() || b.Phase != Running && !b.attended() {
		return Crashed
	}
	return string(b.Phase)
}

// Crashed is the State of a box that should run, start or stop, and does not.
const Crashed = "crashed"

// attended reports whether the boxrun at work on the start or stop still runs.
func (b *Box) attended() bool { return b.SameBoot() && b.Worker.Alive() }

// Ends reports whether the box's init ends within 500 ms. A killed process still exists for a while, without its
// network.
func (b *Box) Ends(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	return b.Init.Wait(ctx) == nil
}

// Watched waits until the first process of a box ends, for the given time at most. Watched does not wait for a box that
// does not run.
func (b *Box) Watched(ctx context.Context, during time.Duration) bool {
	if during == 0 || b.State() != string(Running) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, during)
	defer cancel()
	_ = b.Init.Wait(ctx) // the time is over
	return true
}

// BoxFile returns the path of the record of a box.
func (s *Store) BoxFile(name string) string { return s.Path("boxes", name+".json") }

// NameOf returns the name in a record's file name: of a box, a bridge, or an Apptainer instance.
func NameOf(file string) string { return strings.TrimSuffix(filepath.Base(file), ".json") }

// Load returns the state of a box. The error is os.ErrNotExist for a box unknown to boxrun, and ErrUnreadable for an
// unreadable file.
func (s *Store) Load(name string) (*Box, error) {
	b := new(Box)
	err := ReadJSON(s.BoxFile(name), b)
	if err == nil && b.Name != name {
		err = fmt.Errorf("state file %s is of the box %q", s.BoxFile(name), b.Name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, &fault.Problem{Kind: ErrUnreadable, Text: err.Error(),
			Hint: fmt.Sprintf("\"boxrun down %s\" stops the box and takes away what can be found by its name", name)}
	}
	return b, nil
}

// ErrUnreadable is the error for a box with an unreadable file: cut short, or written by another boxrun. Nothing else
// is known about the box.
var ErrUnreadable = errors.New("state that cannot be read")

// Save writes the state of a box. The caller holds the box's lock. In every phase but Running, the state names this
// process as the worker.
func (s *Store) Save(b *Box) (err error) {
	b.Worker = process.Process{}
	if b.Phase != Running {
		if b.Worker, err = process.Open(os.Getpid()); err != nil {
			return err
		}
	}
	return WriteJSON(s.BoxFile(b.Name), b)
}

// All returns every box with a state file, by name. A box removed meanwhile is left out. For each unreadable file the
// error holds an ErrUnreadable; the other boxes are returned all the same.
func (s *Store) All() ([]*Box, error) { return s.each(s.Load) }

// each is All with records from load, which several goroutines call at once.
func (s *Store) each(load func(name string) (*Box, error)) ([]*Box, error) {
	names, err := s.Recorded()
	if err != nil {
		return nil, err
	}
	type record struct {
		box *Box
		err error
	}
	var boxes []*Box
	var errs []error
	for _, r := range list.MapShared(names, func(name string) record {
		b, err := load(name)
		return record{b, err}
	}) {
		switch {
		case r.err == nil:
			boxes = append(boxes, r.box)
		case !errors.Is(r.err, fs.ErrNotExist):
			errs = append(errs, r.err)
		}
	}
	return boxes, errors.Join(errs...)
}

// Recorded returns the names of the boxes with a record, readable or not, in order.
func (s *Store) Recorded() ([]string, error) {
	entries, err := os.ReadDir(s.Path("boxes"))
	if err := files.IgnoreNotExist(err); err != nil {
		return nil, fmt.Errorf("listing boxes: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return filepath.Ext(e.Name()) != ".json" })
	return list.Map(entries, func(e os.DirEntry) string { return NameOf(e.Name()) }), nil
}

// Unread returns the names of the boxes with unreadable records.
func (s *Store) Unread() []string {
	var names []string
	for _, file := range s.Records("boxes/*.json") {
		if _, err := s.Load(NameOf(file)); errors.Is(err, ErrUnreadable) {
			names = append(names, NameOf(file))
		}
	}
	return names
}

// Others returns every box except the named box, for callers that only read: see Glance.
func (s *Store) Others(name string) ([]*Box, error) {
	boxes, err := s.Glance()
	return Without(boxes, name), err
}

// Without returns the boxes except the named box.
func Without(boxes []*Box, name string) []*Box {
	return slices.DeleteFunc(slices.Clone(boxes), func(b *Box) bool { return b.Name == name })
}

// New returns the state of a box about to start. Environment values stay out of the state, because everyone can read
// the file.
func (s *Store) New(p profiles.Profile, unit string, mtu int) (*Box, error) {
	id, err := process.BootID()
	hostname, nameErr := os.Hostname()
	if err := cmp.Or(err, nameErr); err != nil {
		return nil, err
	}
	b := &Box{
		Name: p.Name, Phase: Starting, Profile: p.WithoutValues(), Hash: p.Hash(), BootID: id, Started: time.Now(), MTU: mtu,
		HooksDue: len(p.Hooks.PostUp) > 0,
		Unit:     unit,
		Record:   apptainer.RecordPath(s.Home, hostname, p.Name),
		Log:      apptainer.LogPath(s.Home, hostname, p.Name),
	}
	b.LogFrom, b.OutFrom = sizeOf(b.Log), sizeOf(b.OutLog())
	return b, nil
}

// sizeOf returns the size of a file in bytes; 0 for a missing file.
func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// OutLog returns the path of Apptainer's .out log.
func (b *Box) OutLog() string { return strings.TrimSuffix(b.Log, ".err") + ".out" }
