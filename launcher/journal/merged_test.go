package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/testkit"
)

func TestParseTime(t *testing.T) {
	for line, want := range map[string]string{
		"1763834329.123456 web nginx[7]: up":    "1763834329.123456| web nginx[7]: up",
		"1.000001 ":                             "1.000001| ",
		"                              goes on": "none",
		"-- Boot 3f2a --":                       "none",
		"1763834329.1 web":                      "none",
		"99999999999999999999.000001 web":       "none",
	} {
		at, rest, ok := parseTime(line)
		got := fmt.Sprintf("%d.%06d|%s", at.Unix(), at.Nanosecond()/1000, rest)
		if !ok {
			got = "none"
		}
		testkit.WantText(t, got, want)
	}
}

// streamsOf returns streams of lines "SECOND text", each stream of its own box and read to its end.
func streamsOf(ctx context.Context, o Query, boxes ...[]string) []*stream {
	var streams []*stream
	shared := make(chan Line)
	for i, lines := range boxes {
		s := &stream{box: &box.Box{Name: string(rune('a' + i))}, logs: o, lines: make(chan Line), done: make(chan struct{})}
		if o.Follow {
			s.lines = shared
		}
		s.at = time.Unix(50, 0)
		s.logs.timed = true
		streams = append(streams, s)
		go func() {
			defer close(s.done)
			for _, line := range lines {
				select {
				case s.lines <- s.line(line):
				case <-ctx.Done():
				}
			}
		}()
	}
	return streams
}

// shownTo collects lines, without the date in front.
func shownTo(got *strings.Builder) func(Line) error {
	return func(line Line) error {
		text := line.Text
		if at, err := time.Parse("Jan 02 15:04:05", text[:min(15, len(text))]); err == nil {
			text = at.Format("05") + text[15:]
		}
		fmt.Fprintf(got, "%s|%s\n", line.Box, text)
		return nil
	}
}

// Lines of boxes are shown in order of time. A continuation line stays with its message. A line without a time counts
// as of the start of its box.
func TestLogsOfSeveralBoxesAreInOrder(t *testing.T) {
	var got strings.Builder
	streams := streamsOf(t.Context(), Query{},
		[]string{"10.000000 one", "30.000002 three", "   and more", "40.000000 four"},
		[]string{"20.000000 two", "30.000001 before three", "59.000000 last"},
		nil,
		[]string{"no time", "  \x1b[2Jnone"},
	)
	if err := showInOrder(streams, shownTo(&got)); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, got.String(), `a|10 one
b|20 two
b|30 before three
a|30 three
a|   and more
a|40 four
d|no time
d|  ?[2Jnone
b|59 last
`)
}

func TestFollowingSeveralBoxes(t *testing.T) {
	var got strings.Builder
	l := &box.Store{Note: func(text string) { fmt.Fprintf(&got, "boxrun: %s\n", text) }}
	streams := streamsOf(t.Context(), Query{Follow: true}, []string{"10.000000 one", "30.000000 three"}, []string{"20.000000 two"})
	streams[1].err = errors.New("of which whoever called is told")
	if err := showAsTheyCome(t.Context(), l, streams, shownTo(&got)); err != nil {
		t.Fatal(err)
	}
	// Either stream may end first. All lines of a stream are shown before the note about its end.
	text := got.String()
	if note := "boxrun: a: its log has ended, as the box has\n"; !strings.Contains(text, note) ||
		strings.Index(text, "a|30 three\n") > strings.Index(text, note) || strings.Contains(text, "b: its log") {
		t.Errorf("got:\n%s\nwant the lines of a, then %q", text, note)
	}
}

// No late line is shown before an older line still to come.
func TestYoungLinesWait(t *testing.T) {
	var got strings.Builder
	at := func(second int64, text string) Line {
		return Line{Box: "a", Text: text, at: time.Unix(second, 0)}
	}
	rest, err := showUntil(time.Unix(20, 0), []Line{at(30, "c"), at(20, "b"), at(10, "a"), at(25, "too young")}, shownTo(&got))
	testkit.WantText(t, fmt.Sprint(got.String(), err, len(rest), rest[0].Text), "a|a\na|b\n<nil> 2too young")
}

// What a box says before its clock is set back is shown all the same.
func TestLinesFromTheFuture(t *testing.T) {
	var got strings.Builder
	s := &stream{box: &box.Box{Name: "a"}, logs: Query{timed: true}}
	line := s.line("9999999999.000000 soon")
	rest, err := showUntil(time.Now(), []Line{line}, shownTo(&got))
	testkit.WantText(t, fmt.Sprint(got.String(), err, len(rest)), "a|39 soon\n<nil> 0")
}

// A reader that is gone ends all streams.
func TestLogsEndWithTheirReader(t *testing.T) {
	gone := errors.New("nobody reads")
	for _, follow := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		streams := streamsOf(ctx, Query{Follow: follow}, []string{"10.000000 one", "11.000000 more"}, []string{"20.000000 two"})
		show := func(Line) error { return gone }
		var err error
		if follow {
			err = showAsTheyCome(ctx, (&box.Store{Note: func(string) {}}), streams, show)
		} else {
			err = showInOrder(streams, show)
		}
		cancel()
		for _, s := range streams {
			<-s.done
		}
		if !errors.Is(err, gone) {
			t.Errorf("follow %v: got %v, want %v", follow, err, gone)
		}
	}
}

func TestLogsRefuseBeforeTheyShow(t *testing.T) {
	l := &box.Store{Dir: t.TempDir()}
	if err := l.Save(&box.Box{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	code, err := Show(t.Context(), l, []string{"web", "nosuch", "web", "other"}, Query{}, nil)
	if !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	testkit.WantText(t, fmt.Sprint(code, " ", err), "125 there is neither a box nor a profile named \"nosuch\"\nthere is neither a box nor a profile named \"other\"")
	code, err = Show(t.Context(), l, []string{"web"}, Query{Unit: "nginx"}, nil)
	testkit.WantText(t, fmt.Sprint(code, " ", err), `125 box "web" keeps no journal, and its log has neither units, times, priorities nor formats`)
}
