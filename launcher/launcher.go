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
	Dir  string       // state directory: /run/boxrun
	Home string       // HOME for Apptainer: /root
	Exe  string       // boxrun's own executable, the init of builtin:hello
	Note func(string) // one line for the person at the terminal
	Live func(string) // shows a line that changes during a long step; "" when the step is over

	Search profiles.Search // where to look for the name meant by a misspelt name of a box
}

// StateDir is where boxrun keeps its records of boxes. Only tests use another directory.
const StateDir = "/run/boxrun"

// path returns the path of elem below the state directory.
func (l *Launcher) path(elem ...string) string {
	return filepath.Join(append([]string{l.Dir}, elem...)...)
}

// conf is the path of boxrun's apptainer.conf, with the directory of boxrun's conflists.
func (l *Launcher) conf() string { return l.path("apptainer.conf") }

func (l *Launcher) notef(format string, args ...any) { l.Note(fmt.Sprintf(format, args...)) }

// lockBox takes the lock of a single box. While another process holds the lock, lockBox notes the holder.
func (l *Launcher) lockBox(ctx context.Context, name string) (func(), error) {
	return l.lock(ctx, "box-"+name, fmt.Sprintf("box %q", name))
}

// lock takes the lock named file. what describes the locked thing in the note about waiting. The returned function
// gives the lock back and removes the directory of locks if empty.
func (l *Launcher) lock(ctx context.Context, file, what string) (func(), error) {
	unlock, err := lock(ctx, l.path("locks"), file, func(holder string) {
		l.notef("waiting for %s, which works on %s", holder, what)
	})
	if err != nil {
		return nil, err
	}
	return func() { unlock(); l.removeEmpty("locks", "") }, nil
}

// removeEmpty removes the given directories of the state if they are empty, so the last down leaves none. No writer is
// harmed: whoever writes into a directory holds a lock, and whoever takes a lock makes the directory of locks as often
// as needed.
func (l *Launcher) removeEmpty(dirs ...string) {
	for _, dir := range dirs {
		_ = os.Remove(l.path(dir)) // fails, as desired, for a directory with content
	}
}

// lockNetwork takes the lock of everything shared by boxes on the host. A process needing both locks takes the box's
// lock before the network's.
func (l *Launcher) lockNetwork(ctx context.Context) (func(), error) {
	return l.lock(ctx, "network", "the host's network")
}

// network returns the bridge network the box's profile asks for.
func (l *Launcher) network(b *Box) netsetup.Network {
	n := b.Profile.Network
	return netsetup.Network{
		Bridge:  n.Bridge,
		Subnet:  n.Subnet,
		MTU:     b.MTU,
		Offload: n.Offload == "off",
		Dir:     l.Dir,
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
