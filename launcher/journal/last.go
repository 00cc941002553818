package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/enter"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/list"
	"boxrun/launcher/say"
	"boxrun/profiles"
)

// A box that does not run leaves its journal where the host keeps the box's /var/log/journal: in the directory of
// [systemd] journal = "host", in a bind, or in the overlay. A journal in memory outlives a crash of the box and a start
// anew, but no down. journalctl of the host reads what is left.

// place is where the files of the host have a box's journal: below root, by a path that the box made.
type place struct{ root, path string }

// placeOf returns the place of the journal of a box of the profile; ok is false where all journals are in memory.
func placeOf(p profiles.Profile) (at place, ok bool) {
	if box.KeepsJournal(p) {
		dir, err := box.HostJournal(p)
		return place{dir, "."}, err == nil
	}
	bind, bound := p.Storage.Over(box.JournalDir)
	switch {
	case bound:
		rest, err := filepath.Rel(bind.Target, box.JournalDir)
		return place{bind.Source, rest}, err == nil
	case p.Storage.Root == "overlay":
		return place{filepath.Join(p.Storage.Overlay, "upper"), strings.TrimPrefix(box.JournalDir, "/")}, true
	}
	return at, false
}

// lastJournal opens the directory with the journal a box of the profile left: on a disk, or else in memory; nil for no
// journal. The error says why a journal is refused.
func lastJournal(s *box.Store, p profiles.Profile) (*os.File, error) {
	var refused error
	if at, ok := placeOf(p); ok {
		dir, err := at.open()
		if dir != nil {
			return dir, nil
		}
		refused = err
	}
	dir, err := place{s.JournalMemory(p.Name), "."}.open()
	return dir, cmp.Or(err, refused)
}

// open opens a place with files of a journal; nil for another place. The box made the directories below the root: none of
// its links is followed, and none leads out. The error tells of what no journal has.
func (at place) open() (*os.File, error) {
	root, err := os.Open(at.root)
	if errors.Is(err, unix.ENOTDIR) {
		return nil, nil // below an overlay image
	}
	if err != nil {
		return nil, files.IgnoreNotExist(err)
	}
	defer root.Close()
	fd, err := unix.Openat2(int(root.Fd()), at.path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, fault.Wrap("following "+filepath.Join(at.root, at.path), files.IgnoreNotExist(err))
	}
	dir := os.NewFile(uintptr(fd), filepath.Join(at.root, at.path))
	if found, err := journals(dir, true); !found || err != nil {
		dir.Close()
		return nil, fault.Wrap("in "+dir.Name(), err)
	}
	return dir, nil
}

// journals looks for files of a journal for journalctl to read, and for deeper in the directories below too. The box
// made them: with a link among them journalctl would read files of the host, with a pipe wait. The names are read a few
// at a time, and mostFiles in all.
func journals(dir *os.File, deeper bool) (found bool, err error) {
	for left := mostFiles; left > 0; {
		entries, err := dir.ReadDir(1000)
		for _, e := range entries {
			ours, err := journalAt(dir, e, deeper)
			if err != nil {
				return false, err
			}
			found = found || ours
		}
		if left -= len(entries); errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, errors.New("too many files")
}

// mostFiles is how many files a directory of a journal may have. systemd keeps some hundred.
const mostFiles = 100_000

func journalAt(dir *os.File, e fs.DirEntry, deeper bool) (found bool, err error) {
	switch {
	case e.Type().IsRegular():
		return filepath.Ext(e.Name()) == ".journal", nil
	case !e.IsDir():
		return false, fmt.Errorf("%s is neither a file nor a directory", e.Name())
	case !deeper:
		return false, nil
	}
	fd, err := unix.Openat(int(dir.Fd()), e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	below := os.NewFile(uintptr(fd), e.Name())
	defer below.Close()
	return journals(below, false)
}

// showLast writes the wanted lines of a journal that a box left. The code is that of journalctl; with an error the code
// is 125.
func showLast(ctx context.Context, dir *os.File, o Query, out, errOut io.Writer) (code int, err error) {
	const handed = 3 // the first of ExtraFiles
	o.Follow, o.Lines = false, o.existing()
	argv := append(o.argv(), fmt.Sprintf("--directory=/proc/self/fd/%d", handed))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, errOut, []*os.File{dir}
	if o.Colours {
		cmd.Env = append(os.Environ(), "SYSTEMD_COLORS=1")
	}
	err = cmd.Run()
	if exited := new(exec.ExitError); errors.As(err, &exited) && exited.Exited() {
		return exited.ExitCode(), nil
	}
	if err != nil && ctx.Err() == nil {
		return enter.CodeBoxrun, fmt.Errorf("reading the journal in %s: %w", dir.Name(), err)
	}
	return 0, nil
}

// LastWords returns the last lines of the journal that a dead box left, fit to print; none without such a journal. Where the
// journal cannot be read, LastWords returns the reason as the only line.
func LastWords(ctx context.Context, s *box.Store, b *box.Box, lines int) []string {
	ctx, cancel := context.WithTimeout(ctx, lastTimeout)
	defer cancel()
	dir, err := lastJournal(s, b.Profile)
	if err != nil {
		return []string{err.Error()}
	}
	if dir == nil {
		return nil
	}
	defer dir.Close()
	var out say.Head
	if _, err := showLast(ctx, dir, Query{Lines: &lines, Output: "cat"}, &out, &out); err != nil {
		return []string{err.Error()}
	}
	said := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	return list.Map(said[max(0, len(said)-lines):], say.Plain)
}

// lastTimeout limits the reading of last words: a failed start is told without them, too.
const lastTimeout = 5 * time.Second

// existing returns the number of existing lines to show: nil for all.
func (o Query) existing() *int {
	if n := o.lastLines(); n >= 0 {
		return &n
	}
	return nil
}

// downBox returns a record for reading the journal that a box left when the box went down. arg names the box's profile.
// Error: ErrNotFound without a profile or a journal.
func downBox(s *box.Store, arg string, missing error) (*box.Box, error) {
	p, err := s.Search.Load(arg)
	if err != nil {
		return nil, missing
	}
	b := &box.Box{Name: p.Name, Profile: p}
	dir, err := lastJournal(s, p)
	if err != nil {
		return nil, fault.Refused("nothing of it is read for a reason: root in the box made it; look for yourself, or remove it",
			"box %q is not up, and the journal that it left is refused: %v", p.Name, err)
	}
	if dir == nil {
		return nil, &fault.Problem{Kind: fault.ErrNotFound, Text: fmt.Sprintf("box %q is not up, and its journal went with it", p.Name),
			Hint: "[systemd] journal = \"host\" in the profile keeps journals; a root = \"overlay\" keeps those of an image with " + box.JournalDir}
	}
	dir.Close()
	return b, nil
}
