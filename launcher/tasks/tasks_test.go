package tasks

import (
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
				Run(c.n, c.limit, func(i int) []int { return c.before[i] }, func(i int) {
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
