package journal

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/enter"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/process"
)

// Query selects the log lines wanted from each box.
type Query struct {
	Follow  bool // go on as new lines come
	Lines   *int // how many of the existing lines, from the end, -1 for all; nil: all, or with Follow the last ten
	Colours bool // keep colours; for a single box only

	Unit     string // lines of this unit only
	Since    string // in journalctl's syntax, as are all below
	Until    string
	Priority string // lines of this priority and above
	Grep     string // lines whose message matches this pattern
	Output   string // format of the lines; for a single box only

	timed bool // each line begins with its time, for parseTime
}

// argv returns the journalctl command that prints the lines, to be run in the box.
func (o Query) argv() []string {
	argv := []string{"journalctl", "--no-pager"}
	for _, option := range []struct {
		wanted bool
		text   string
	}{
		{o.timed || o.Lines != nil && *o.Lines == 0, "--quiet"}, // without --quiet, journalctl prints "No entries"
		{o.timed, "--output=short-unix"},
		{o.Follow, "--follow"},
		{o.Lines != nil, "--lines=" + linesOption(o.lastLines())},
		{o.Unit != "", "--unit=" + o.Unit},
		{o.Since != "", "--since=" + o.Since},
		{o.Until != "", "--until=" + o.Until},
		{o.Priority != "", "--priority=" + o.Priority},
		{o.Grep != "", "--grep=" + o.Grep},
		{o.Output != "", "--output=" + o.Output},
	} {
		if option.wanted {
			argv = append(argv, option.text)
		}
	}
	return argv
}

// linesOption returns a number of lines as journalctl takes numbers.
func linesOption(n int) string {
	if n < 0 {
		return "all"
	}
	return strconv.Itoa(n)
}

// lastLines returns the number of existing lines to begin with; -1 means all.
func (o Query) lastLines() int {
	switch {
	case o.Lines != nil:
		return *o.Lines
	case o.Follow:
		return 10 // as journalctl and tail do
	}
	return -1
}

// logFile is a file Apptainer keeps of a box: the output of its init, or the reason for a failed start.
type logFile struct {
	Path string
	From int64 // offset in bytes of this start's lines; Apptainer only appends
}

// showLog writes the wanted lines of a box to out: from the box's journal, or from files if the box has no journal or
// does not run (b.PID is 0). The code is journalctl's; with an error the code is 125. Following stops when the box or
// ctx ends; neither is an error.
func showLog(ctx context.Context, b enter.Ref, o Query, files []logFile, out, errOut io.Writer) (code int, err error) {
	if b.PID != 0 && hasJournal(ctx, b.PID) {
		e := enter.Command{Argv: o.argv(), Stdout: out, Stderr: errOut}
		if !o.Follow && o.Grep == "" { // a search may find nothing for long
			e.Quiet = enter.Patience
		}
		if o.Colours {
			e.Env = []string{"SYSTEMD_COLORS=1"}
		}
		return b.Run(ctx, e)
	}
	if err := o.refuseFiles(b.Name); err != nil {
		return enter.CodeBoxrun, err
	}
	files = slices.Clone(files)
	for i := range files {
		if err := files[i].tail(out, o.lastLines()); err != nil {
			return enter.CodeBoxrun, fmt.Errorf("reading the log of box %q: %w", b.Name, err)
		}
	}
	if !o.Follow || b.PID == 0 {
		return 0, nil
	}
	if err := followFiles(ctx, b.PID, files, out); err != nil {
		return enter.CodeBoxrun, fmt.Errorf("following the log of box %q: %w", b.Name, err)
	}
	return 0, nil
}

// selects reports whether only a journal can answer the query.
func (o Query) selects() bool {
	return o.Unit+o.Since+o.Until+o.Priority+o.Grep+o.Output != ""
}

// refuseFiles refuses a selection only a journal can make, such as by unit or by time, and journalctl's formats.
func (o Query) refuseFiles(box string) error {
	if !o.selects() {
		return nil
	}
	return fmt.Errorf("box %q keeps no journal, and its log has neither units, times, priorities nor formats", box)
}

// hasJournal reports whether systemd's journal runs in the box.
func hasJournal(ctx context.Context, pid int) bool {
	fd, err := process.OpenInside(ctx, pid, "run", "systemd", "journal", "socket")
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// tail writes the last lines of this start, all for -1, and moves From to the end of the file. The next tail thus
// writes what Apptainer has appended since. A missing file has no lines.
func (f *logFile) tail(out io.Writer, lines int) error {
	file, err := os.Open(f.Path)
	if err != nil {
		return files.IgnoreNotExist(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() <= f.From {
		return err
	}
	from, err := lastLines(file, f.From, info.Size(), lines)
	if err != nil {
		return err
	}
	f.From = info.Size()
	_, err = io.Copy(out, io.NewSectionReader(file, from, f.From-from))
	return err
}

// lastLines returns where the last lines of the part of a file begin: from for a negative number. The part is read from
// its end, a piece at a time: a box can fill a disk with its log.
func lastLines(file io.ReaderAt, from, to int64, lines int) (int64, error) {
	switch {
	case lines < 0:
		return from, nil
	case lines == 0:
		return to, nil
	}
	piece := make([]byte, 64*1024)
	for end := to; end > from; {
		begin := max(from, end-int64(len(piece)))
		part := piece[:end-begin]
		if _, err := file.ReadAt(part, begin); err != nil {
			return from, err
		}
		for at := len(part) - 1; at >= 0; at-- {
			if part[at] != '\n' || begin+int64(at) == to-1 { // the last line may have its end
				continue
			}
			if lines--; lines <= 0 {
				return begin + int64(at) + 1, nil
			}
		}
		end = begin
	}
	return from, nil
}

// followEvery is the time between two looks for new lines in files.
const followEvery = 250 * time.Millisecond

// followFiles writes what is appended to files after their From, until ctx or the process ends.
func followFiles(ctx context.Context, pid int, logs []logFile, out io.Writer) error {
	for {
		alive := files.Exists(process.ProcFile(pid, "")) // before the last words of the box are read
		for i := range logs {
			if err := logs[i].tail(out, -1); err != nil {
				return err
			}
		}
		if !alive || process.Sleep(ctx, followEvery) != nil {
			return nil
		}
	}
}

// Units returns the units loaded by a box's systemd, sorted by name: only these can have written log lines. Error:
// ErrNotFound if the box is not up.
func Units(ctx context.Context, store *box.Store, name string) ([]guest.Unit, error) {
	b, err := enter.Find(store, name)
	if err != nil {
		return nil, err
	}
	s, err := guest.Dial(ctx, b.Init.PID)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.Units(ctx)
}
