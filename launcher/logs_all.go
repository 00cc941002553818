package launcher

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// LogLine is one line of a box's log, fit for a terminal.
type LogLine struct {
	Box     string
	Text    string
	Problem bool // it is what journalctl has to say of itself

	at time.Time
}

// Logs shows the logs of boxes: their journals, or what Apptainer kept of a box that has none or has crashed. Those of
// several are shown as one, in the order of time; where there is no time, it is that of the box's start. Following, it goes on
// until ctx ends, or the last of the boxes; the end of one is noted.
//
// The code is journalctl's. With an error it is 125: ErrNotFound, and nothing shown, where one of the boxes is not there; that
// of show.
func (store *Store) Logs(ctx context.Context, names []string, o Logs, show func(LogLine) error) (code int, err error) {
	boxes, err := store.logged(names, o)
	if err != nil {
		return CodeBoxrun, err
	}
	for _, b := range boxes {
		store.noteCrash(b)
	}
	if len(boxes) == 1 {
		s := store.newLogStream(boxes[0], o)
		s.show = show
		s.run(ctx)
		store.noteEnd(ctx, s)
		return s.code, s.err
	}
	return store.mergedLogs(ctx, boxes, o, show)
}

// logged finds the boxes, each once, and refuses what cannot be asked of one of them.
func (s *Store) logged(names []string, o Logs) ([]*Box, error) {
	var boxes []*Box
	var errs []error
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		b, err := s.find(name)
		if err == nil && (!b.alive() || !hasJournal(b.Init.PID)) {
			err = o.refuseFiles(name)
		}
		boxes, errs = append(boxes, b), append(errs, err)
	}
	return boxes, errors.Join(errs...)
}

// mergedLogs runs a stream for each box and shows all their lines.
func (store *Store) mergedLogs(ctx context.Context, boxes []*Box, o Logs, show func(LogLine) error) (code int, err error) {
	o.timed, o.Colours = true, false
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	streams := make([]*logStream, len(boxes))
	for i, b := range boxes {
		streams[i] = store.newLogStream(b, o)
		streams[i].start(running)
	}
	if o.Follow {
		err = store.showAsTheyCome(running, streams, show)
	} else {
		err = showInOrder(streams, show)
	}
	if err != nil {
		cancel()
	}
	for _, s := range streams {
		<-s.done
	}
	if err != nil {
		return CodeBoxrun, err
	}
	return resultOf(ctx, streams)
}

// resultOf gives the first code and all errors of streams that have ended.
func resultOf(ctx context.Context, streams []*logStream) (code int, err error) {
	if ctx.Err() != nil {
		return codeInterrupted, nil
	}
	var errs []error
	for _, s := range streams {
		errs = append(errs, s.err)
		if code == 0 {
			code = s.code
		}
	}
	return code, errors.Join(errs...)
}

// codeInterrupted is what a shell makes of a command that a control-C ended.
const codeInterrupted = 130

// logStream is the log of one box while it is being read.
type logStream struct {
	box   *Box
	ref   boxRef
	logs  Logs
	show  func(LogLine) error
	lines chan LogLine  // of a stream that was started; closed behind the last one
	done  chan struct{} // closed when code and err are known
	code  int
	err   error
	at    time.Time // of the last line
}

func (store *Store) newLogStream(b *Box, o Logs) *logStream {
	s := &logStream{box: b, ref: store.ref(b), logs: o, at: b.Started, lines: make(chan LogLine), done: make(chan struct{})}
	if !b.alive() {
		s.ref.PID = 0
	}
	return s
}

// start has the stream's lines come over its channel until ctx ends.
func (s *logStream) start(ctx context.Context) {
	s.show = func(line LogLine) error {
		select {
		case s.lines <- line:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	go func() {
		defer close(s.done)
		defer close(s.lines)
		s.run(ctx)
	}()
}

// run shows the lines until there are no more. That a box ends whose log is followed is no failure.
func (s *logStream) run(ctx context.Context) {
	var one sync.Mutex // the two are written to at once
	show := func(line LogLine) error {
		one.Lock()
		defer one.Unlock()
		return s.show(line)
	}
	out := &lineWriter{Show: func(text string) error { return show(s.line(text)) }}
	problems := &lineWriter{Show: func(text string) error {
		return show(LogLine{Box: s.box.Name, Text: plainLine(text), Problem: true})
	}}
	s.code, s.err = showLogs(ctx, s.ref, s.logs, s.box.logs(), out, problems)
	if err := errors.Join(out.end(), problems.end()); s.err == nil && err != nil {
		s.code, s.err = CodeBoxrun, err
	}
	if s.logs.Follow && ctx.Err() == nil && s.boxEnded(ctx) {
		s.code, s.err = 0, nil
	}
}

func (s *logStream) boxEnded(ctx context.Context) bool {
	return s.ref.PID == 0 || !s.box.alive() || s.box.ends(ctx)
}

// noteEnd says why a log that was followed does not go on.
func (store *Store) noteEnd(ctx context.Context, s *logStream) {
	if !s.logs.Follow || ctx.Err() != nil || s.err != nil || s.code != 0 {
		return
	}
	if s.boxEnded(ctx) {
		store.notef("%s: its log has ended, as the box has", s.box.Name)
		return
	}
	store.notef("%s: its log has ended", s.box.Name)
}

// noteCrash says what is shown of a box that has crashed, which may be nothing: a systemd writes to its journal alone, and that
// cannot be reached before the next up.
func (s *Store) noteCrash(b *Box) {
	if b.alive() || b.state() != crashed {
		return
	}
	also := ""
	if b.Unit != "" {
		also = fmt.Sprintf("; \"journalctl -u %s\" has what the host saw of it", b.Unit)
	}
	s.notef("%s: has crashed: this is not its journal, but what Apptainer kept of its output%s", b.Name, also)
}

// line takes the time from the front of a line where it has one. A line that goes on with a message has that one's; one
// from the future, as after a clock was set back, is of now, or it would be held until then.
func (s *logStream) line(text string) LogLine {
	if !s.logs.timed {
		return LogLine{Box: s.box.Name, Text: s.fit(text)}
	}
	if at, rest, ok := parseTime(text); ok {
		text = at.Format("Jan 02 15:04:05") + rest
		if s.at = at; at.After(time.Now()) {
			s.at = time.Now()
		}
	}
	return LogLine{Box: s.box.Name, Text: plainLine(text), at: s.at}
}

func (s *logStream) fit(text string) string {
	if s.logs.Colours {
		return colouredLine(text)
	}
	return plainLine(text)
}

var unixTime = regexp.MustCompile(`^(\d{1,12})\.(\d{6})( .*)`)

// parseTime reads a line of journalctl's short-unix: seconds and microseconds, and the rest of the line with its space.
func parseTime(text string) (at time.Time, rest string, ok bool) {
	m := unixTime.FindStringSubmatch(text)
	if m == nil {
		return at, "", false
	}
	seconds, _ := strconv.ParseInt(m[1], 10, 64) // digits, and few enough
	micros, _ := strconv.ParseInt(m[2], 10, 64)
	return time.Unix(seconds, micros*1000), m[3], true
}

// showInOrder shows the lines of streams that end, by their time. Each stream has its own in that order.
func showInOrder(streams []*logStream, show func(LogLine) error) error {
	heads := make([]*LogLine, len(streams))
	for {
		first := -1
		for i, s := range streams {
			if heads[i] == nil {
				if line, ok := <-s.lines; ok {
					heads[i] = &line
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
	gatherFirst = 500 * time.Millisecond // for what is there already, while each box's journalctl starts
	gatherEvery = 50 * time.Millisecond
	gatherFor   = 350 * time.Millisecond // journald tells of new lines 250 ms later at most
)

// showAsTheyCome shows lines in the order of time, each once those of other boxes that are older have come as well, until the
// last stream has ended.
func (s *Store) showAsTheyCome(ctx context.Context, streams []*logStream, show func(LogLine) error) error {
	began, tick := time.Now(), time.NewTicker(gatherEvery)
	defer tick.Stop()
	all := gather(ctx, streams)
	var held []LogLine
	for {
		var ended *logStream
		select {
		case news, ok := <-all:
			if !ok {
				_, err := showUntil(time.Now(), held, show)
				return err
			}
			if ended = news.ended; ended == nil {
				held = append(held, news.line)
				continue
			}
		case <-tick.C:
			if time.Since(began) < gatherFirst {
				continue
			}
		}
		until := time.Now().Add(-gatherFor)
		if ended != nil {
			until = time.Now() // its lines go before what is said of its end
		}
		var err error
		if held, err = showUntil(until, held, show); err != nil {
			return err
		}
		if ended != nil {
			s.noteEnd(ctx, ended)
		}
	}
}

// showUntil shows those of the lines that are of a time not after until, sorted, and gives the others.
func showUntil(until time.Time, lines []LogLine, show func(LogLine) error) (rest []LogLine, err error) {
	slices.SortStableFunc(lines, func(a, b LogLine) int { return a.at.Compare(b.at) })
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

// logNews is a line of a stream, or the stream that has ended behind its last one.
type logNews struct {
	line  LogLine
	ended *logStream
}

// gather gives the lines of all streams as they come, and their ends, until ctx ends.
func gather(ctx context.Context, streams []*logStream) <-chan logNews {
	all := make(chan logNews)
	send := func(news logNews) {
		select {
		case all <- news:
		case <-ctx.Done():
		}
	}
	var open sync.WaitGroup
	for _, s := range streams {
		open.Go(func() {
			for line := range s.lines {
				send(logNews{line: line})
			}
			<-s.done
			send(logNews{ended: s})
		})
	}
	go func() {
		open.Wait()
		close(all)
	}()
	return all
}
