package launcher

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

	"boxrun/netsetup"
	"boxrun/profiles"
)

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

	Init   process `json:"init"`   // zero until Apptainer's record was seen
	Master process `json:"master"` // the same
	Cgroup string  `json:"cgroup"` // the box's own, below /sys/fs/cgroup; "" where it has none

	Worker process `json:"worker,omitzero"` // the boxrun at work on the box; zero of one that runs

	Unit     string `json:"unit"`     // service of the host's systemd that Apptainer runs in; "" for none
	Restarts int    `json:"restarts"` // how often systemd has started it anew since it was brought up

	Image imageID `json:"image,omitzero"` // what it was started from

	HooksDue bool `json:"hooks_due,omitempty"` // hooks.post_up has not run to its end since the start

	MadeOverlay bool     `json:"made_overlay,omitempty"` // boxrun made the overlay's directory, and the box never ran
	MadeDirs    []string `json:"made_dirs,omitempty"`    // directories that boxrun made for the box's storage, and the box never ran

	MTU   int           `json:"mtu"`
	Addr  netip.Addr    `json:"addr"` // reserved from phase starting on
	Veth  string        `json:"veth"`
	Ports netsetup.Plan `json:"ports"` // undo log of the box's rules

	foreseen bool // it would run by now: a DryRun's
}

// alive says whether the box's init still runs: in this boot, and not another process of the same number.
func (b *Box) alive() bool {
	id, err := bootID()
	return err == nil && id == b.BootID && b.Init.PID > 1 && b.Init.alive()
}

// state says what has become of the box: one that should run and does not has crashed, and so has one whose start or
// stop nobody is at work on any more. It is told by the record and /proc, as ps is for everybody: the lock is root's.
func (b *Box) state() string {
	if b.Phase == Running && !b.alive() || b.Phase != Running && !b.attended() {
		return crashed
	}
	return string(b.Phase)
}

const crashed = "crashed"

// attended says whether the boxrun that began to start or stop the box is still there.
func (b *Box) attended() bool { return sameBoot(b) && b.Worker.alive() }

// ends says whether the box's init is about to be gone: a process that was killed is there for a while, without its
// network.
func (b *Box) ends(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	return b.Init.wait(ctx) == nil
}

func (s *Store) boxFile(name string) string { return s.path("boxes", name+".json") }

// nameOf gives what the record in a file is named after: a box, a bridge, an instance of Apptainer's.
func nameOf(file string) string { return strings.TrimSuffix(filepath.Base(file), ".json") }

// load gives the state of a box; os.ErrNotExist where boxrun knows none of that name, errUnreadable where it cannot tell.
func (s *Store) load(name string) (*Box, error) {
	b := new(Box)
	err := readJSON(s.boxFile(name), b)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, &Problem{Kind: errUnreadable, Text: err.Error(),
			Hint: fmt.Sprintf("\"boxrun down %s\" stops the box and takes away what can be found by its name", name)}
	}
	return b, nil
}

// StartedFrom gives the profile that the box named was started from, if there is a record of it that can be read.
func (s *Store) StartedFrom(name string) (profiles.Ref, bool) {
	b, err := s.load(name)
	if err != nil || b.Profile.File == "" {
		return profiles.Ref{}, false
	}
	return b.Profile.Ref(), true
}

// errUnreadable says that there is a box of which nothing else is known: its file was cut short, or is of another boxrun.
var errUnreadable = errors.New("state that cannot be read")

// save writes the state of a box, whose lock the caller has. Until the box runs, it is noted that we are at work on it.
func (s *Store) save(b *Box) (err error) {
	b.Worker = process{}
	if b.Phase != Running {
		if b.Worker, err = openProcess(os.Getpid()); err != nil {
			return err
		}
	}
	return writeJSON(s.boxFile(b.Name), b)
}

// boxes gives every box there is state of, by name. One that another boxrun takes away meanwhile is left out. Beside
// errUnreadable, for each file that cannot be read, it gives the others.
func (s *Store) boxes() ([]*Box, error) {
	entries, err := os.ReadDir(s.path("boxes"))
	if err := ignoreNotExist(err); err != nil {
		return nil, fmt.Errorf("listing boxes: %w", err)
	}
	var boxes []*Box
	var errs []error
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		b, err := s.load(nameOf(e.Name()))
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

// others gives every box but the one named.
func (s *Store) others(name string) ([]*Box, error) {
	boxes, err := s.boxes()
	return without(boxes, name), err
}

func without(boxes []*Box, name string) []*Box {
	var others []*Box
	for _, b := range boxes {
		if b.Name != name {
			others = append(others, b)
		}
	}
	return others
}

// newBox gives the state of a box that is about to start. Environment values stay out of it: the file is for everyone
// to read.
func (s *Store) newBox(p profiles.Profile, unit string, mtu int) (*Box, error) {
	id, err := bootID()
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
		Record:   recordPath(s.Home, hostname, p.Name),
		Log:      logPath(s.Home, hostname, p.Name),
	}
	b.LogFrom, b.OutFrom = sizeOf(b.Log), sizeOf(b.outLog())
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

// outLog gives Apptainer's .out log.
func (b *Box) outLog() string { return strings.TrimSuffix(b.Log, ".err") + ".out" }
