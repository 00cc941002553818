package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/process"
	"boxrun/netsetup"
	"boxrun/profiles"
)

func (b *Box) Overlay() string {
	if b.Profile.Storage.Root != "overlay" {
		return ""
	}
	return b.Profile.Storage.Overlay
}

func SameBoot(b *Box) bool {
	id, err := process.BootID()
	return err == nil && id == b.BootID
}

// Foreign reports whether Apptainer's record of the box is of a running instance other than the box: somebody started
// an instance of the same name by hand after the box had ended. For a box still starting, with its init unknown, a
// running instance counts as the box's own.
func (b *Box) Foreign() bool {
	if b.Phase == Starting && b.Init.PID <= 1 {
		return false
	}
	r, err := apptainer.ReadRecord(b.Record)
	return err == nil && r.PID != b.Init.PID && r.Verify() == nil
}

func IsHello(image string) bool { return image == "builtin:hello" }

// Phase is how far the work on a box has come. It is saved before the work it names begins, so that whoever finds the
// file of a killed boxrun knows what may be left.
type Phase string

// A box is Starting until its rules are in place, and Stopping from the moment its init is told to go.
const (
	Starting Phase = "starting"
	Running  Phase = "running"
	Stopping Phase = "stopping"
)

// Box is the state of one box: Dir/boxes/NAME.json, readable by everyone, without the values of environment
// variables.
type Box struct {
	Name    string           `json:"name"`
	Phase   Phase            `json:"phase"`
	Profile profiles.Profile `json:"profile"` // as started
	Hash    string           `json:"hash"`    // of the whole profile, but those values
	BootID  string           `json:"boot_id"`
	Started time.Time        `json:"started"`

	Record  string `json:"record"`   // Apptainer's file about the instance; found by this path, as hostnames change
	Log     string `json:"log"`      // Apptainer's .err log
	LogFrom int64  `json:"log_from"` // where this start's lines begin in it, in bytes
	OutFrom int64  `json:"out_from"` // the same for the .out log beside it

	Init   process.Process `json:"init"`   // zero until Apptainer's record was seen
	Master process.Process `json:"master"` // the same
	Cgroup string          `json:"cgroup"` // the box's own, below /sys/fs/cgroup; "" where it has none

	Worker process.Process `json:"worker,omitzero"` // the boxrun at work on the box; zero of one that runs

	Unit     string `json:"unit"`     // service of the host's systemd that Apptainer runs in; "" for none
	Restarts int    `json:"restarts"` // how often systemd has started it anew since it was brought up

	Image ImageID `json:"image,omitzero"` // what it was started from

	HooksDue bool `json:"hooks_due,omitempty"` // hooks.post_up has not run to its end since the start

	MadeOverlay bool     `json:"made_overlay,omitempty"` // boxrun made the overlay's directory, and the box never ran
	MadeDirs    []string `json:"made_dirs,omitempty"`    // directories that boxrun made for the box's storage, and the box never ran

	MTU   int           `json:"mtu"`
	Addr  netip.Addr    `json:"addr"` // reserved from phase starting on
	Veth  string        `json:"veth"`
	Ports netsetup.Plan `json:"ports"` // undo log of the box's rules

	Foreseen bool // it would run by now: a DryRun's
}

// Alive says whether the box's init still runs: in this boot, and not another process of the same number.
func (b *Box) Alive() bool {
	id, err := process.BootID()
	return err == nil && id == b.BootID && b.Init.PID > 1 && b.Init.Alive()
}

// State says what has become of the box: one that should run and does not has crashed, and so has one whose start or
// stop nobody is at work on any more. It is told by the record and /proc, as ps is for everybody: the lock is root's.
func (b *Box) State() string {
	if b.Phase == Running && !b.Alive() || b.Phase != Running && !b.attended() {
		return Crashed
	}
	return string(b.Phase)
}

const Crashed = "crashed"

// attended says whether the boxrun that began to start or stop the box is still there.
func (b *Box) attended() bool { return SameBoot(b) && b.Worker.Alive() }

// Ends says whether the box's init is about to be gone: a process that was killed is there for a while, without its
// network.
func (b *Box) Ends(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	return b.Init.Wait(ctx) == nil
}

func (s *Store) BoxFile(name string) string { return s.Path("boxes", name+".json") }

// NameOf gives what the record in a file is named after: a box, a bridge, an instance of Apptainer's.
func NameOf(file string) string { return strings.TrimSuffix(filepath.Base(file), ".json") }

// Load gives the state of a box; os.ErrNotExist where boxrun knows none of that name, ErrUnreadable where it cannot tell.
func (s *Store) Load(name string) (*Box, error) {
	b := new(Box)
	err := ReadJSON(s.BoxFile(name), b)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, &fault.Problem{Kind: ErrUnreadable, Text: err.Error(),
			Hint: fmt.Sprintf("\"boxrun down %s\" stops the box and takes away what can be found by its name", name)}
	}
	return b, nil
}

// ErrUnreadable says that there is a box of which nothing else is known: its file was cut short, or is of another boxrun.
var ErrUnreadable = errors.New("state that cannot be read")

// Save writes the state of a box, whose lock the caller has. Until the box runs, it is noted that we are at work on it.
func (s *Store) Save(b *Box) (err error) {
	b.Worker = process.Process{}
	if b.Phase != Running {
		if b.Worker, err = process.Open(os.Getpid()); err != nil {
			return err
		}
	}
	return WriteJSON(s.BoxFile(b.Name), b)
}

// All gives every box there is state of, by name. One that another boxrun takes away meanwhile is left out. Beside
// ErrUnreadable, for each file that cannot be read, it gives the others.
func (s *Store) All() ([]*Box, error) {
	entries, err := os.ReadDir(s.Path("boxes"))
	if err := files.IgnoreNotExist(err); err != nil {
		return nil, fmt.Errorf("listing boxes: %w", err)
	}
	var boxes []*Box
	var errs []error
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		b, err := s.Load(NameOf(e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		boxes = append(boxes, b)
	}
	return boxes, errors.Join(errs...)
}

// Others gives every box but the one named.
func (s *Store) Others(name string) ([]*Box, error) {
	boxes, err := s.All()
	return Without(boxes, name), err
}

func Without(boxes []*Box, name string) []*Box {
	var others []*Box
	for _, b := range boxes {
		if b.Name != name {
			others = append(others, b)
		}
	}
	return others
}

// New gives the state of a box that is about to start. Environment values stay out of it: the file is for everyone
// to read.
func (s *Store) New(p profiles.Profile, unit string, mtu int) (*Box, error) {
	id, err := process.BootID()
	if err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
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

// sizeOf gives the size of a file in bytes, 0 where there is none.
func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// OutLog gives Apptainer's .out log.
func (b *Box) OutLog() string { return strings.TrimSuffix(b.Log, ".err") + ".out" }
