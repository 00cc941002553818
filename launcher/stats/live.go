package stats

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"boxrun/launcher/box"
	"boxrun/launcher/list"
	"boxrun/launcher/process"
)

// every is the time between two samples.
const every = time.Second

// Take reads what the named boxes use now; no names are all boxes. Error: ErrNotFound for a missing box.
func Take(s *box.Store, names []string) (Sample, error) {
	boxes, err := s.All()
	if len(names) > 0 {
		boxes, err = nil, nil
		for _, name := range names {
			b, findErr := s.Find(name)
			boxes, err = append(boxes, b), errors.Join(err, findErr)
		}
	}
	if err != nil {
		return Sample{}, err
	}
	return Sample{At: time.Now(), Boxes: list.Map(boxes, Read)}, nil
}

// Once returns the table of the named boxes after the first sample and another one.
func Once(ctx context.Context, s *box.Store, names []string, first Sample) ([][]string, error) {
	first.noteUncounted(s)
	if err := process.Sleep(ctx, every); err != nil {
		return nil, err
	}
	second, err := Take(s, names)
	return Table(first, second), err
}

// Live writes the table to a terminal, over and over in the same place, until ctx ends or a named box goes. The last
// table stays.
func Live(ctx context.Context, s *box.Store, names []string, terminal *os.File) error {
	now, err := Take(s, names)
	now.noteUncounted(s)
	for last, up := now, ""; err == nil; {
		width, height, _ := term.GetSize(int(terminal.Fd())) // 0 without a size
		lines := Screen(Table(last, now), width, height)
		if _, err := terminal.WriteString(up + strings.Join(lines, "\n") + "\n\x1b[J"); err != nil {
			return err
		}
		if err := process.Sleep(ctx, every); err != nil {
			return err
		}
		up, last = fmt.Sprintf("\r\x1b[%dA", len(lines)), now
		now, err = Take(s, names)
	}
	return err
}
