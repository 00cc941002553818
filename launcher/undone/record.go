package undone

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/launcher/list"
)

// Record is what the repairs of a box have put back, and could not put back. It is removed together with all else of the box.
type Record struct {
	Things []Thing  `json:"things,omitempty"`
	Left   []string `json:"left,omitempty"` // what the last repair could not put back
}

// file returns the path of the record of a box.
func file(s *box.Store, name string) string { return filepath.Join(s.BoxDir(name), "undone.json") }

// Load returns the record of a box. The record is empty where nothing was put back, and for an unreadable file, in place of which
// the next repair begins to count anew.
func Load(s *box.Store, name string) (r Record) {
	if box.ReadJSON(file(s, name), &r) != nil {
		return Record{}
	}
	return r
}

// Keep saves the records of boxes that are still there, where the records have changed. The record of a box in the hands of another
// boxrun stays as it is.
func Keep(ctx context.Context, s *box.Store, all map[string]Record) error {
	var errs []error
	for name, r := range all {
		if !reflect.DeepEqual(r, Load(s, name)) {
			errs = append(errs, r.save(ctx, s, name))
		}
	}
	return errors.Join(errs...)
}

// save saves the record of a box.
func (r Record) save(ctx context.Context, s *box.Store, name string) error {
	unlock, err := s.TryLockBox(ctx, name)
	if errors.Is(err, box.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.Load(name); err != nil {
		return files.IgnoreNotExist(err)
	}
	return files.IgnoreFull(box.WriteJSON(file(s, name), r)) // a full disk is no reason to tell of each repair
}

// records is the pattern of all records.
const records = "boxes/*/undone.json"

// Any reports whether anything of any box was put back.
func Any(s *box.Store) bool { return len(s.Records(records)) > 0 }

// Next returns when the next repair of any box is due; zero where no box waits for a repair.
func Next(s *box.Store) (next time.Time) {
	for _, path := range s.Records(records) {
		for _, t := range Load(s, filepath.Base(filepath.Dir(path))).Things {
			if due := t.Due(); !due.IsZero() && (next.IsZero() || due.Before(next)) {
				next = due
			}
		}
	}
	return next
}

// Found returns the record after a look at what is out of place, and a change at a time by programs. by names the programs, each
// with what started it as far as known: "iptables=bash of site.service". A thing put back by somebody else counts as put back
// then. What is found out of place together waits together: one act may undo several things.
func (r Record) Found(drift, by []string, at time.Time) Record {
	next := Record{Left: r.Left}
	var pause time.Duration
	for _, t := range r.Things {
		switch out := slices.Contains(drift, t.What); {
		case at.Sub(t.Mended) >= calm:
			continue
		case out && t.Undone.IsZero():
			t.found(at)
			pause = max(pause, t.Pause)
		case !out && !t.Undone.IsZero():
			t.mended(at)
		}
		if !t.Undone.IsZero() {
			t.blame(by)
		}
		next.Things = append(next.Things, t)
	}
	for i := range next.Things {
		if t := &next.Things[i]; t.Undone.Equal(at) {
			t.Pause = pause
		}
	}
	return next
}

// Judge says whether something of what is out of place waits for a repair of later, and whether something calls for a repair now:
// what is new, or has waited long enough. What the last repair could not put back does neither.
func (r Record) Judge(drift []string, now time.Time) (waits, calls bool) {
	for _, line := range drift {
		i := r.index(line)
		switch {
		case i >= 0 && r.Things[i].waits(now):
			waits = true
		case i >= 0 || !slices.Contains(r.Left, line):
			calls = true
		}
	}
	return waits, calls
}

// index returns the place of a thing, or -1.
func (r Record) index(what string) int {
	return slices.IndexFunc(r.Things, func(t Thing) bool { return t.What == what })
}

// Outcome is a repair of a box: what was out of place before, what the repair says to have put back, and what is out of
// place after.
type Outcome struct{ Before, Told, After []string }

// Repaired returns the record after a repair, and the things put back for the fifth time, without things undone together with a
// thing of earlier news. What is put back and out of place again was undone at once. by are the programs with changes before, as of
// Found.
func (r Record) Repaired(o Outcome, by []string, now time.Time) (next Record, known []Thing) {
	next.Things = slices.Clone(r.Things)
	for _, line := range o.Before {
		again := slices.Contains(o.After, line)
		if again && !slices.Contains(o.Told, line) {
			next.Left = append(next.Left, line)
			next.postpone(line, now)
			continue
		}
		i := next.index(line)
		if i < 0 {
			i = len(next.Things)
			next.Things = append(next.Things, Thing{What: line, Since: now})
			next.Things[i].blame(by)
		}
		t := &next.Things[i]
		t.Times++
		if t.Times == often && !r.toldOf(t.Undone) {
			known = append(known, *t)
		}
		t.mended(now)
		if again {
			t.found(now)
		}
	}
	return next, known
}

// Postponed returns the record after a repair without an outcome. The next repair comes late, or after another change.
func (r Record) Postponed(drift []string, now time.Time) Record {
	next := Record{Things: slices.Clone(r.Things), Left: r.Left}
	for _, line := range drift {
		next.postpone(line, now)
	}
	return next
}

// postpone has a thing wait longest.
func (r *Record) postpone(what string, now time.Time) {
	if i := r.index(what); i >= 0 {
		r.Things[i].Undone, r.Things[i].Pause = now, longest
	}
}

// toldOf reports whether people know of a thing undone at a time.
func (r Record) toldOf(undone time.Time) bool {
	return slices.ContainsFunc(r.Things, func(t Thing) bool { return t.Times >= often && t.Undone.Equal(undone) })
}

// Lines returns a line for each thing of a box undone again and again.
func Lines(s *box.Store, name string, now time.Time) []string {
	return list.Map(Load(s, name).often(now), func(t Thing) string {
		if due := t.Due(); !due.IsZero() {
			return fmt.Sprintf("%v; boxrun puts it back at %s", t, due.Local().Format(time.TimeOnly))
		}
		return fmt.Sprintf("%v; boxrun put it back last at %s", t, t.Mended.Local().Format(time.TimeOnly))
	})
}

// often returns the things undone again and again.
func (r Record) often(now time.Time) []Thing {
	return slices.DeleteFunc(slices.Clone(r.Things), func(t Thing) bool { return t.Times < often || now.Sub(t.Mended) >= calm })
}

// Known reports whether people have been told of a thing, as others undo the thing again and again.
func (r Record) Known(what string) bool {
	i := r.index(what)
	return i >= 0 && r.Things[i].Times >= often
}

// Counts reports whether a thing is in the record.
func (r Record) Counts(what string) bool { return r.index(what) >= 0 }
