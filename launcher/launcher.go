package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"boxrun/netsetup"
	"boxrun/profiles"
)

// Launcher starts and stops boxes. Its methods may be called by several processes at once: each takes the lock of the box
// it works on.
type Launcher struct {
	*Store
	Live func(string) // shows the line of a step that takes long; "" when the step is over
}

// Store is where the records of boxes are kept, and what all work on boxes has in common. The records are below Dir.
// Several processes may use one Dir at once: each takes the lock of the box it works on.
type Store struct {
	Dir  string       // state directory: /run/boxrun
	Home string       // HOME of Apptainer: /root
	Exe  string       // path of boxrun's own executable, the init of builtin:hello
	Note func(string) // shows one line to the person at the terminal

	Search profiles.Search // where profiles are looked for, to guess which name was meant
}

// StateDir is where boxrun keeps what it knows of boxes; another one is for tests.
const StateDir = "/run/boxrun"

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// conf is the apptainer.conf that finds boxrun's conflists.
func (s *Store) conf() string { return s.path("apptainer.conf") }

func (s *Store) notef(format string, args ...any) { s.Note(fmt.Sprintf(format, args...)) }

// lockBox takes the lock of one box, saying whom it waits for.
func (s *Store) lockBox(ctx context.Context, name string) (func(), error) {
	return s.lock(ctx, "box-"+name, fmt.Sprintf("box %q", name))
}

func (s *Store) lock(ctx context.Context, file, what string) (func(), error) {
	unlock, err := lock(ctx, s.path("locks"), file, func(holder string) {
		s.notef("waiting for %s, which works on %s", holder, what)
	})
	if err != nil {
		return nil, err
	}
	return func() { unlock(); s.removeEmpty("locks", "") }, nil
}

// removeEmpty removes those directories of the state that are empty, so that the last down leaves none. Whoever writes
// into one holds a lock, and who takes a lock makes its directory as often as it takes.
func (s *Store) removeEmpty(dirs ...string) {
	for _, dir := range dirs {
		_ = os.Remove(s.path(dir)) // fails, as it should, where something is in it
	}
}

// lockNetwork takes the lock of everything that boxes share on the host. A box's own lock is taken before it.
func (s *Store) lockNetwork(ctx context.Context) (func(), error) {
	return s.lock(ctx, "network", "the host's network")
}

// network gives what a profile asks of its bridge.
func (s *Store) network(b *Box) netsetup.Network {
	n := b.Profile.Network
	return netsetup.Network{
		Bridge:  n.Bridge,
		Subnet:  n.Subnet,
		MTU:     b.MTU,
		Offload: n.Offload == "off",
		Dir:     s.Dir,
	}
}

// bootID tells one boot of the host from the next.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// openKernel opens what plans are applied to.
func openKernel() (*netsetup.Kernel, error) {
	k, err := netsetup.Open()
	if errors.Is(err, netsetup.ErrNoIptables) {
		return nil, refused("install the package iptables", "%v", err)
	}
	return k, err
}
