package tasks

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Independent tasks run side by side up to the limit, others in order.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int
		limit  int
		before map[int][]int
		want   time.Duration
	}{
		{"none", 0, 1, nil, 0},
		{"all at once", 4, 4, nil, time.Second},
		{"two at a time", 4, 2, nil, 2 * time.Second},
		{"in a row", 4, 4, map[int][]int{0: {1}, 1: {2}, 2: {3}}, 4 * time.Second},
		{"in a row with one place", 3, 1, map[int][]int{0: {1}, 1: {2}}, 3 * time.Second},
		{"two after one", 3, 3, map[int][]int{0: {2, 0, 7, -1}, 1: {2}}, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var running, most atomic.Int64
				ended := map[int]bool{}
				began := time.Now()
				Run(c.n, c.limit, func(i int) []int { return c.before[i] }, func(i int, _ *Turn) {
					most.Store(max(most.Load(), running.Add(1)))
					for _, first := range c.before[i] {
						mu.Lock()
						if first != i && 0 <= first && first < c.n && !ended[first] {
							t.Errorf("task %d runs before task %d", i, first)
						}
						mu.Unlock()
					}
					time.Sleep(time.Second)
					running.Add(-1)
					mu.Lock()
					ended[i] = true
					mu.Unlock()
				})
				if took := time.Since(began); took != c.want || len(ended) != c.n || most.Load() > int64(c.limit) {
					t.Errorf("%d tasks, at most %d at a time, took %v, want %v", len(ended), most.Load(), took, c.want)
				}
			})
		})
	}
}

// A part of tasks side by side is done in order; a task that takes long, or has nothing to do in order, keeps none waiting.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		began := time.Now()
		Run(6, 3, func(int) []int { return nil }, func(i int, turn *Turn) {
			switch i {
			case 1:
				return
			case 4:
				time.Sleep(time.Minute)
			}
			time.Sleep(time.Duration(5-i) * 100 * time.Millisecond)
			turn.Await(t.Context())
			mu.Lock()
			order = append(order, fmt.Sprint(i))
			mu.Unlock()
			turn.End()
			turn.End()
			time.Sleep(time.Second)
		})
		if took := time.Since(began); !slices.Equal(order[3:], []string{"5", "4"}) || took > 63*time.Second {
			t.Errorf("got the order %v after %v", order, took)
		}
		slices.Sort(order[:3])
		if !slices.Equal(order[:3], []string{"0", "2", "3"}) {
			t.Errorf("got the order %v", order)
		}
	})
	var alone *Turn
	alone.Await(t.Context())
	alone.End()
}

// A task that waits for others to be done takes no turn, and keeps those from theirs neither before nor after.
func TestTurnsOfTasksThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		Run(3, 3, func(i int) []int { return map[int][]int{0: {1}, 1: {2}}[i] }, func(_ int, turn *Turn) {
			turn.Await(t.Context())
			time.Sleep(time.Second)
		})
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("three tasks of a second, one after the other, took %v", took)
		}
	})
}
