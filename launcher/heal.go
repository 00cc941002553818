package launcher

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/list"
	"boxrun/launcher/undone"
)

// Heal is Repair after a change; without a change Heal is Repair. Heal looks first. A thing of a box that others undo again and
// again waits for a later repair, unless something else is out of place: a repair puts back all. Heal tells once of such a thing.
func (l *Launcher) Heal(ctx context.Context, c undone.Change) (Repaired, error) {
	if c.At.IsZero() {
		return l.Repair(ctx)
	}
	before, err := l.List(ctx)
	if err != nil { // Repair says so, and repairs the boxes that can be read
		return l.Repair(ctx)
	}
	records, wait := judge(l.Store, before, c)
	if wait || allWell(l.Store, before) {
		return Repaired{Boxes: len(before)}, undone.Keep(ctx, l.Store, records)
	}
	done, err := l.Repair(ctx)
	if ctx.Err() != nil { // the watch begins anew, after a further change
		return done, err
	}
	news := done.count(records, before, c)
	done.hush(records)
	for _, text := range slices.Sorted(maps.Keys(news)) {
		done.Left = append(done.Left, strings.Join(news[text], ", ")+": "+text)
	}
	return done, errors.Join(err, undone.Keep(ctx, l.Store, records))
}

// judge returns the records of boxes after a look, and whether all that is out of place waits for a later repair.
func judge(s *box.Store, boxes []Status, c undone.Change) (records map[string]undone.Record, wait bool) {
	records = map[string]undone.Record{}
	called := false
	for _, b := range boxes {
		r := undone.Load(s, b.Name).Found(b.Drift, c.By, c.At)
		waits, calls := r.Judge(b.Drift, time.Now())
		records[b.Name], wait, called = r, wait || waits, called || calls
	}
	return records, wait && !called
}

// allWell reports whether all boxes run, nothing of them is out of place, and no other boxrun works on them.
func allWell(s *box.Store, boxes []Status) bool {
	return !slices.ContainsFunc(boxes, func(b Status) bool {
		return b.State != string(box.Running) || b.Drift == nil || len(b.Drift) > 0 || s.Locked(b.Name)
	})
}

// count notes the repair in the records of boxes, and returns what is new to tell, with the boxes it is of.
func (r *Repaired) count(records map[string]undone.Record, before []Status, c undone.Change) map[string][]string {
	after := map[string]Status{}
	for _, b := range r.after {
		after[b.Name] = b
	}
	news := map[string][]string{}
	for _, b := range before {
		if after[b.Name].Drift == nil { // the repair failed, the box has ended, or nobody could look
			records[b.Name] = records[b.Name].Postponed(b.Drift, r.at)
			continue
		}
		told := list.Map(r.Lines, func(line string) string { return strings.TrimPrefix(line, b.Name+": ") })
		next, known := records[b.Name].Repaired(undone.Outcome{Before: b.Drift, Told: told, After: after[b.Name].Drift}, c.By, r.at)
		if records[b.Name] = next; len(known) > 0 {
			text := undone.News(known)
			news[text] = append(news[text], b.Name)
		}
	}
	return news
}

// hush leaves out of what the repair tells the things that others undo again and again, and those that were undone at once: they
// are not left, but put back.
func (r *Repaired) hush(records map[string]undone.Record) {
	for name, record := range records {
		r.Lines = slices.DeleteFunc(r.Lines, func(line string) bool { return record.Known(strings.TrimPrefix(line, name+": ")) })
	}
	r.Left = stillDrifted(list.Map(r.after, func(b Status) Status {
		b.Drift = slices.DeleteFunc(slices.Clone(b.Drift), records[b.Name].Counts)
		return b
	}))
}
