package tasks

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Run does the tasks 0 to n-1, at most limit of them at a time, and returns when all are done. before returns the tasks
// to be done before a task; numbers out of range and the task itself are skipped. Tasks must not wait for each other in a
// circle. Tasks with none before them begin in order. do is given the turn of the task.
func Run(n, limit int, before func(task int) []int, do func(task int, turn *Turn)) {
	turns := turns(n)
	done := make([]chan struct{}, n)
	for i := range done {
		done[i] = make(chan struct{})
	}
	running := make(chan struct{}, limit)
	var all sync.WaitGroup
	for i := range n {
		run := func() {
			defer close(done[i])
			defer turns[i].End()
			defer func() { <-running }()
			do(i, turns[i])
		}
		firsts := slices.DeleteFunc(slices.Clone(before(i)), func(first int) bool { return first == i || first < 0 || first >= n })
		if len(firsts) == 0 {
			running <- struct{}{}
			all.Go(run)
			continue
		}
		turns[i].End() // who waits keeps nobody waiting
		all.Go(func() {
			for _, first := range firsts {
				<-done[first]
			}
			running <- struct{}{}
			run()
		})
	}
	all.Wait()
}

// Turn is the place of a task in the order of tasks, for the part of tasks side by side that is best done in order. The nil
// Turn is that of a task alone.
type Turn struct {
	earlier []*Turn
	ended   chan struct{}
	once    sync.Once
}

// turns returns the turns of tasks 0 to n-1.
func turns(n int) []*Turn {
	var all []*Turn
	for range n {
		all = append(all, &Turn{earlier: all, ended: make(chan struct{})})
	}
	return all
}

// courtesy is how long a task waits for earlier turns: a task that takes long keeps no other from its work.
const courtesy = 3 * time.Second

// Await waits until all earlier turns have ended, for the time of courtesy at most. A turn that has ended waits for none.
func (t *Turn) Await(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, courtesy)
	defer cancel()
	for _, earlier := range t.earlier {
		select {
		case <-earlier.ended:
		case <-t.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// End ends the turn, if it has not ended yet. The end of a task ends its turn as well.
func (t *Turn) End() {
	if t != nil {
		t.once.Do(func() { close(t.ended) })
	}
}
