package box

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/profiles"
)

// Names returns the names of the boxes, in order.
func Names(boxes []*Box) []string { return list.Map(boxes, func(b *Box) string { return b.Name }) }

// Store is where the records of boxes are kept, and what all work on boxes has in common. The records are below Dir.
// Several processes may use one Dir at once: each takes the lock of the box it works on.
type Store struct {
	Dir  string       // state directory: /run/boxrun
	Home string       // HOME of Apptainer: /root
	Exe  string       // path of boxrun's own executable, the init of builtin:hello
	Note func(string) // shows one line to the person at the terminal

	Caller Caller          // what runs this boxrun
	Search profiles.Search // where profiles are looked for, to guess which name was meant

	glances glances
}

// StateDir is where boxrun keeps its records of boxes. Only tests use another directory.
const StateDir = "/run/boxrun"

// Path returns the path of elem below the state directory.
func (s *Store) Path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// Conf is the path of boxrun's apptainer.conf, with the directory of boxrun's conflists.
func (s *Store) Conf() string { return s.Path("apptainer.conf") }

// Notef shows one line to the person at the terminal.
func (s *Store) Notef(format string, args ...any) { s.Note(fmt.Sprintf(format, args...)) }

// LockBox takes the lock of a single box. While another process holds the lock, LockBox notes the holder.
func (s *Store) LockBox(ctx context.Context, name string) (func(), error) {
	return s.Lock(ctx, "box-"+name, fmt.Sprintf("box %q", name))
}

// LockToStop is LockBox for whoever takes the box down. Meanwhile StopWanted tells so.
func (s *Store) LockToStop(ctx context.Context, name string) (func(), error) {
	defer wantStop(s.lockPath(name))()
	return s.LockBox(ctx, name)
}

// StopWanted reports whether somebody waits in LockToStop for the lock of a box.
func (s *Store) StopWanted(name string) bool { return stopWanted(s.lockPath(name)) }

// lockPath is the path of the lock of a box.
func (s *Store) lockPath(name string) string { return s.Path("locks", "box-"+name+".lock") }

// ErrBusy is the error for a box another boxrun works on.
var ErrBusy = errors.New("another boxrun works on it")

// TryLockBox is LockBox without waiting: the error is ErrBusy while another process holds the lock.
func (s *Store) TryLockBox(ctx context.Context, name string) (func(), error) {
	return s.lock(ctx, "box-"+name, nil)
}

// Locked reports whether a boxrun holds the lock of a box, as everybody may ask. The lock is not touched.
func (s *Store) Locked(name string) bool { return held(s.lockPath(name)) }

// Lock takes the lock named file. what describes the locked thing in the note about waiting. The returned function
// gives the lock back and removes the directory of locks if empty.
func (s *Store) Lock(ctx context.Context, file, what string) (func(), error) {
	return s.lock(ctx, file, func(holder string) { s.Notef("waiting for %s, which works on %s", holder, what) })
}

func (s *Store) lock(ctx context.Context, file string, onWait func(holder string)) (func(), error) {
	unlock, err := takeLock(ctx, s.Path("locks"), file, onWait)
	if err != nil {
		return nil, err
	}
	return func() { unlock(); s.RemoveEmpty("locks", "") }, nil
}

// RemoveEmpty removes the given directories of the state if they are empty, so the last down leaves none. No writer is
// harmed: whoever writes into a directory holds a lock, and whoever takes a lock makes the directory of locks as often
// as needed.
func (s *Store) RemoveEmpty(dirs ...string) {
	for _, dir := range dirs {
		_ = os.Remove(s.Path(dir)) // fails, as it should, where something is in it
	}
}

// LockNetwork takes the lock of everything shared by boxes on the host. A process needing both locks takes the box's
// lock before the network's.
func (s *Store) LockNetwork(ctx context.Context) (func(), error) {
	return s.Lock(ctx, "network", "the host's network")
}

// BoxDir is the directory of what boxrun prepares for a box: its configuration, its secrets, and the root of
// builtin:hello.
func (s *Store) BoxDir(name string) string { return s.Path("boxes", name) }

// ConfDir is the directory of the files bound into a box.
func (s *Store) ConfDir(name string) string { return filepath.Join(s.BoxDir(name), "conf") }

// JournalMemory is where a file system in memory has the journal that a box keeps in memory. It is outside of the state, as
// it outlives a start anew, and the loss of the state.
func (s *Store) JournalMemory(name string) string { return filepath.Join(s.JournalMemories(), name) }

// JournalMemories is the directory of all JournalMemory.
func (s *Store) JournalMemories() string { return s.Dir + "-journals" }

// HelloRoot is the directory of the sandbox of builtin:hello, for a single box.
func (s *Store) HelloRoot(name string) string { return filepath.Join(s.BoxDir(name), "root") }

// Records returns the state files matching a pattern.
func (s *Store) Records(pattern string) []string {
	files, _ := filepath.Glob(s.Path(pattern)) // the patterns are well-formed
	return files
}

// SecretsDir returns the directory of a box's secrets. The secrets are copies of files of the host. boxrun binds their
// directory into the box, read-only:
//
//	DIR/boxes/NAME/secrets/SECRET    /etc/secrets/SECRET
//
// Only root may enter the directory, in the box as well. The directory is on a tmpfs: the copies vanish with the box
// and never reach a disk. With copies the box cannot write the files, and sees the same owner and mode for every
// source.
func (s *Store) SecretsDir(box string) string { return filepath.Join(s.BoxDir(box), "secrets") }

// StartedFrom returns the profile the named box was started from. The bool is false without a readable record.
func (s *Store) StartedFrom(name string) (profiles.Ref, bool) {
	b, err := s.Load(name)
	if err != nil || b.Profile.File == "" {
		return profiles.Ref{}, false
	}
	return b.Profile.Ref(), true
}

// Find returns the state of a box. The error for a running box without a record is LostProblem. Without such a box the error
// is ErrNotFound with a hint: the box of a profile is not up, and how to bring it up; for any other name there is a guess at
// the intended name.
func (s *Store) Find(name string) (*Box, error) {
	b, err := s.Load(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if s.IsLost(name) {
		return nil, LostProblem(name)
	}
	p := &fault.Problem{Kind: fault.ErrNotFound, Text: fmt.Sprintf("box %q is not up", name), Hint: "\"boxrun ps -a\" lists boxes and profiles"}
	word, known := s.Search.Knows(name)
	word = cmp.Or(word, name)
	if !known {
		p.Text = s.Neither(name)
	} else if _, err := s.Search.Find(word); err == nil { // for an instance of another profile there is no word
		p.Hint = fmt.Sprintf("\"boxrun up %s\" brings it up", word)
	}
	return nil, p
}

// Neither says that neither a box nor a profile has the name, and guesses at the intended name.
func (s *Store) Neither(name string) string {
	return fmt.Sprintf("there is neither a box nor a profile named %q%s", name, s.DidYouMean(name))
}

// DidYouMean returns a guess at the box or profile meant by an unknown name, worded to follow an error; "" if no name
// is near.
func (s *Store) DidYouMean(name string) string {
	boxes, _ := s.All() // beside an error it gives what could be read
	return s.Search.DidYouMean(name, Names(boxes)...)
}
