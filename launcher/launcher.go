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

// Launcher starts and stops boxes and keeps its records of boxes below Dir. Several processes may call its methods at
// once: each method takes the lock of its box.
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

// StateDir is where boxrun keeps its records of boxes. Only tests use another directory.
const StateDir = "/run/boxrun"

// path returns the path of elem below the state directory.
func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// conf is the path of boxrun's apptainer.conf, with the directory of boxrun's conflists.
func (s *Store) conf() string { return s.path("apptainer.conf") }

func (s *Store) notef(format string, args ...any) { s.Note(fmt.Sprintf(format, args...)) }

// lockBox takes the lock of a single box. While another process holds the lock, lockBox notes the holder.
func (s *Store) lockBox(ctx context.Context, name string) (func(), error) {
	return s.lock(ctx, "box-"+name, fmt.Sprintf("box %q", name))
}

// lock takes the lock named file. what describes the locked thing in the note about waiting. The returned function
// gives the lock back and removes the directory of locks if empty.
func (s *Store) lock(ctx context.Context, file, what string) (func(), error) {
	unlock, err := lock(ctx, s.path("locks"), file, func(holder string) {
		s.notef("waiting for %s, which works on %s", holder, what)
	})
	if err != nil {
		return nil, err
	}
	return func() { unlock(); s.removeEmpty("locks", "") }, nil
}

// removeEmpty removes the given directories of the state if they are empty, so the last down leaves none. No writer is
// harmed: whoever writes into a directory holds a lock, and whoever takes a lock makes the directory of locks as often
// as needed.
func (s *Store) removeEmpty(dirs ...string) {
	for _, dir := range dirs {
		_ = os.Remove(s.path(dir)) // fails, as it should, where something is in it
	}
}

// lockNetwork takes the lock of everything shared by boxes on the host. A process needing both locks takes the box's
// lock before the network's.
func (s *Store) lockNetwork(ctx context.Context) (func(), error) {
	return s.lock(ctx, "network", "the host's network")
}

// network returns the bridge network the box's profile asks for.
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

// bootID returns the host's boot ID, different for each boot.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// openKernel opens the kernel's network state, to apply plans to. Without iptables the error is ErrRefused.
func openKernel() (*netsetup.Kernel, error) {
	k, err := netsetup.Open()
	if errors.Is(err, netsetup.ErrNoIptables) {
		return nil, refused("install the package iptables", "%v", err)
	}
	return k, err
}
