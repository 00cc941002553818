package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/enter"
	"boxrun/launcher/fault"
	"boxrun/launcher/say"
	"boxrun/profiles"
)

// Line is a line of a box's log, safe to print on a terminal.
type Line struct {
	Box     string
	Text    string
	Problem bool // a message of journalctl about itself

	at time.Time
}

// Show shows the logs of boxes, named as profiles are: the journal of each that runs, the journal that a dead box left, or
// Apptainer's files for a box without a journal. Lines of several boxes are merged in order of time. Lines of Apptainer's
// files have no time and count as of the box's start. With Follow, Show goes on until ctx ends or the last of the boxes ends,
// and notes the end of each box.
//
// The code is journalctl's. With an error the code is 125. The errors are ErrNotFound, before anything is shown, if a
// box is missing, and the error of show.
func Show(ctx context.Context, store *box.Store, names []string, o Query, show func(Line) error) (code int, err error) {
	boxes, err := logged(ctx, store, names, o)
	if err != nil {
		return enter.CodeBoxrun, err
	}
	for _, b := range boxes {
		noteCrash(ctx, store, b)
	}
	if len(boxes) == 1 {
		s := newStream(store, boxes[0], o)
		s.show = show
		s.run(ctx)
		noteEnd(ctx, store, s)
		return s.code, s.err
	}
	return mergedLogs(ctx, store, boxes, o, show)
}

// logged returns the boxes, each once. Errors: ErrNotFound for a missing box; the error of refuseFiles for a box
// without a journal.
func logged(ctx context.Context, s *box.Store, names []string, o Query) ([]*box.Box, error) {
	var boxes []*box.Box
	var errs []error
	for i, name := range names {
		if slices.ContainsFunc(names[:i], func(arg string) bool { return profiles.BoxName(arg) == profiles.BoxName(name) }) {
			continue
		}
		b, err := s.Find(profiles.BoxName(name))
		switch {
		case errors.Is(err, fault.ErrNotFound):
			b, err = downBox(s, name, err)
		case err == nil && !readable(ctx, s, b):
			err = o.refuseFiles(b.Name)
		}
		boxes, errs = append(boxes, b), append(errs, err)
	}
	return boxes, errors.Join(errs...)
}

// readable reports whether the box has a journal to read: of its own while the box runs, else the journal that it left.
func readable(ctx context.Context, s *box.Store, b *box.Box) bool {
	if b.Alive() {
		return hasJournal(ctx, b.Init.PID)
	}
	dir, _ := lastJournal(s, b.Profile)
	if dir != nil {
		dir.Close()
	}
	return dir != nil
}

// mergedLogs runs a stream for each box and shows the lines of all, without colours. An error of show ends all streams.
// The code is the first code other than 0, with all errors of the streams. If ctx has ended, the code is
// codeInterrupted and the error nil.
func mergedLogs(ctx context.Context, store *box.Store, boxes []*box.Box, o Query, show func(Line) error) (code int, err error) {
	o.timed, o.Colours = true, false
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	streams, shared := make([]*stream, len(boxes)), make(chan Line)
	for i, b := range boxes {
		streams[i] = newStream(store, b, o)
		if o.Follow {
			streams[i].lines = shared
		}
		streams[i].start(running)
	}
	if o.Follow {
		err = showAsTheyCome(running, store, streams, show)
	} else {
		err = showInOrder(streams, show)
	}
	if err != nil {
		cancel()
	}
	var errs []error
	for _, s := range streams {
		<-s.done
		code, errs = cmp.Or(code, s.code), append(errs, s.err)
	}
	switch {
	case err != nil:
		return enter.CodeBoxrun, err
	case ctx.Err() != nil:
		return codeInterrupted, nil
	}
	return code, errors.Join(errs...)
}

// codeInterrupted is a shell's exit code for a command ended by control-C.
const codeInterrupted = 130

// stream is the log of a single box while being read.
type stream struct {
	store *box.Store
	box   *box.Box
	ref   enter.Ref
	logs  Query
	show  func(Line) error
	lines chan Line     // used after start; with Follow, shared by all streams
	done  chan struct{} // closed when the last line was received, and code and err are known
	code  int
	err   error
	at    time.Time // time of the last line
}

// newStream returns a stream for the log of b, not yet running. The log of a dead box comes from Apptainer's files.
func newStream(store *box.Store, b *box.Box, o Query) *stream {
	s := &stream{store: store, box: b, ref: enter.RefOf(store, b), logs: o, at: b.Started, lines: make(chan Line), done: make(chan struct{})}
	if !b.Alive() {
		s.ref.PID = 0
	}
	return s
}

// start makes the stream send its lines over the channel lines until ctx ends.
func (s *stream) start(ctx context.Context) {
	s.show = func(line Line) error {
		select {
		case s.lines <- line:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	go func() {
		defer close(s.done)
		s.run(ctx)
	}()
}

// run shows the lines until the log ends. The end of a box while following its log is not an error.
func (s *stream) run(ctx context.Context) {
	var one sync.Mutex // out and problems are written to concurrently
	show := func(line Line) error {
		one.Lock()
		defer one.Unlock()
		return s.show(line)
	}
	out := &say.LineWriter{Show: func(text string) error { return show(s.line(text)) }}
	problems := &say.LineWriter{Show: func(text string) error {
		return show(Line{Box: s.box.Name, Text: say.Plain(text), Problem: true})
	}}
	files := []logFile{{s.box.Log, s.box.LogFrom}, {s.box.OutLog(), s.box.OutFrom}} // from where this start began to write
	s.code, s.err = s.showAll(ctx, files, out, problems)
	if err := errors.Join(out.End(), problems.End()); s.err == nil && err != nil {
		s.code, s.err = enter.CodeBoxrun, err
	}
	if s.logs.Follow && ctx.Err() == nil && s.boxEnded(ctx) {
		s.code, s.err = 0, nil
	}
}

// showAll shows the log of the stream's box: of a dead box first the journal that the box left, then what Apptainer kept
// of its output, unless only a journal has what is asked for.
func (s *stream) showAll(ctx context.Context, files []logFile, out, problems io.Writer) (code int, err error) {
	if s.ref.PID == 0 {
		if dir, _ := lastJournal(s.store, s.box.Profile); dir != nil {
			defer dir.Close()
			code, err = showLast(ctx, dir, s.logs, out, problems)
			if err != nil || code != 0 || s.logs.selects() || s.box.Log == "" {
				return code, err
			}
		}
	}
	return showLog(ctx, s.ref, s.logs, files, out, problems)
}

// boxEnded reports whether the stream's box has ended or is about to.
func (s *stream) boxEnded(ctx context.Context) bool {
	return s.ref.PID == 0 || !s.box.Alive() || s.box.Ends(ctx)
}

// noteEnd notes why following a log has stopped. There is no note after an error, or when ctx has ended.
func noteEnd(ctx context.Context, store *box.Store, s *stream) {
	if !s.logs.Follow || ctx.Err() != nil || s.err != nil || s.code != 0 {
		return
	}
	if s.boxEnded(ctx) {
		store.Notef("%s: its log has ended, as the box has", s.box.Name)
		return
	}
	store.Notef("%s: its log has ended", s.box.Name)
}

// noteCrash notes what is shown of a box that crashed or is down.
func noteCrash(ctx context.Context, s *box.Store, b *box.Box) {
	if b.Alive() || b.State() != box.Crashed {
		return
	}
	left := readable(ctx, s, b)
	if b.Log == "" {
		s.Notef("%s: is not up: this is the journal that it left", b.Name)
		return
	}
	shown := "this is not its journal, but what Apptainer kept of its output"
	if left {
		shown = "this is the journal that it left, and what Apptainer kept of its output"
	}
	also := ""
	if b.Unit != "" {
		also = fmt.Sprintf("; \"journalctl -u %s\" has what the host saw of it", b.Unit)
	}
	if !left && !box.IsHello(b.Profile.Image) {
		also += "; [systemd] journal = \"host\" would keep its journal"
	}
	s.Notef("%s: has crashed: %s%s", b.Name, shown, also)
}

// line makes a Line of text, safe for a terminal, with colours if wanted. A time is cut from the front. A line without
// a time continues a message and gets the time of the line before. A time in the future, as after a clock was set back,
// counts as now: otherwise the line would be held until then.
func (s *stream) line(text string) Line {
	clean := say.Plain
	if s.logs.Colours {
		clean = say.Coloured
	}
	if at, rest, ok := parseTime(text); ok && s.logs.timed {
		text = at.Format("Jan 02 15:04:05") + rest
		if s.at = at; at.After(time.Now()) {
			s.at = time.Now()
		}
	}
	return Line{Box: s.box.Name, Text: clean(text), at: s.at}
}

var unixTime = regexp.MustCompile(`^(\d{1,12})\.(\d{6})( .*)`)

// parseTime parses a line of journalctl's short-unix format: seconds and microseconds. rest is the remaining line with
// its leading space.
func parseTime(text string) (at time.Time, rest string, ok bool) {
	m := unixTime.FindStringSubmatch(text)
	if m == nil {
		return at, "", false
	}
	seconds, _ := strconv.ParseInt(m[1], 10, 64) // cannot fail: 12 digits at most
	micros, _ := strconv.ParseInt(m[2], 10, 64)
	return time.Unix(seconds, micros*1000), m[3], true
}

// showInOrder merges the lines of streams by time until all streams end. Each stream's own lines are in order already.
func showInOrder(streams []*stream, show func(Line) error) error {
	heads := make([]*Line, len(streams))
	for {
		first := -1
		for i, s := range streams {
			if heads[i] == nil {
				select {
				case line := <-s.lines:
					heads[i] = &line
				case <-s.done:
				}
			}
			if heads[i] != nil && (first < 0 || heads[i].at.Before(heads[first].at)) {
				first = i
			}
		}
		if first < 0 {
			return nil
		}
		if err := show(*heads[first]); err != nil {
			return err
		}
		heads[first] = nil
	}
}

const (
	gatherFirst = 500 * time.Millisecond // for existing lines, while the journalctl of each box starts
	gatherEvery = 50 * time.Millisecond
	gatherFor   = 350 * time.Millisecond // journald reports new lines at most 250 ms late
)

// showAsTheyCome shows lines in order of time until the last stream ends. Each line is held for gatherFor, so older
// lines of other boxes can arrive first. The end of a stream releases all lines held, and is noted after them.
func showAsTheyCome(ctx context.Context, store *box.Store, streams []*stream, show func(Line) error) (err error) {
	began, tick := time.Now(), time.NewTicker(gatherEvery)
	defer tick.Stop()
	ends := make(chan *stream, len(streams))
	for _, s := range streams {
		go func() { <-s.done; ends <- s }()
	}
	var held []Line
	for open := len(streams); open > 0; {
		select {
		case line := <-streams[0].lines: // of any stream
			held = append(held, line)
		case ended := <-ends:
			open--
			if held, err = showUntil(time.Now(), held, show); err == nil {
				noteEnd(ctx, store, ended)
			}
		case <-tick.C:
			if time.Since(began) >= gatherFirst {
				held, err = showUntil(time.Now().Add(-gatherFor), held, show)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// showUntil shows the lines not later than until, sorted by time, and returns the others. Lines of the same time keep
// their order.
func showUntil(until time.Time, lines []Line, show func(Line) error) (rest []Line, err error) {
	slices.SortStableFunc(lines, func(a, b Line) int { return a.at.Compare(b.at) })
	for i, line := range lines {
		if line.at.After(until) {
			return lines[i:], nil
		}
		if err := show(line); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
