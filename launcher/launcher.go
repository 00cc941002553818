package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"boxrun/netsetup"
	"boxrun/netsetup/rules"
	"boxrun/profiles"
)

// Launcher starts and stops boxes and keeps what it knows of them below Dir. Its methods may be called by several
// processes at once: each takes the lock of the box it works on.
type Launcher struct {
	Dir  string       // state directory: /run/boxrun
	Home string       // what Apptainer is given as HOME: /root
	Exe  string       // boxrun's own executable, the init of builtin:hello
	Note func(string) // one line for the person at the terminal
	Live func(string) // the line that changes while a step takes long; "" when the step is over

	Search profiles.Search // where to guess at the name that was meant by one that no box has
}

// StateDir is where boxrun keeps what it knows of boxes; another one is for tests.
const StateDir = "/run/boxrun"

func (l *Launcher) path(elem ...string) string {
	return filepath.Join(append([]string{l.Dir}, elem...)...)
}

// conf is the apptainer.conf that finds boxrun's conflists.
func (l *Launcher) conf() string { return l.path("apptainer.conf") }

func (l *Launcher) notef(format string, args ...any) { l.Note(fmt.Sprintf(format, args...)) }

// lockBox takes the lock of one box, saying whom it waits for.
func (l *Launcher) lockBox(ctx context.Context, name string) (func(), error) {
	return l.lock(ctx, "box-"+name, fmt.Sprintf("box %q", name))
}

func (l *Launcher) lock(ctx context.Context, file, what string) (func(), error) {
	unlock, err := lock(ctx, l.path("locks"), file, func(holder string) {
		l.notef("waiting for %s, which works on %s", holder, what)
	})
	if err != nil {
		return nil, err
	}
	return func() { unlock(); l.removeEmpty("locks", "") }, nil
}

// removeEmpty removes those directories of the state that are empty, so that the last down leaves none. Whoever writes
// into one holds a lock, and who takes a lock makes its directory as often as it takes.
func (l *Launcher) removeEmpty(dirs ...string) {
	for _, dir := range dirs {
		_ = os.Remove(l.path(dir)) // fails, as it should, where something is in it
	}
}

// lockNetwork takes the lock of everything that boxes share on the host. A box's own lock is taken before it.
func (l *Launcher) lockNetwork(ctx context.Context) (func(), error) {
	return l.lock(ctx, "network", "the host's network")
}

// network gives what a profile asks of its bridge.
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
	if errors.Is(err, rules.ErrNoIptables) {
		return nil, refused("install the package iptables", "%v", err)
	}
	return k, err
}
