package tasks

import "sync"

// Run does the tasks 0 to n-1, at most limit of them at a time, and returns when all are done. before returns the tasks
// to be done before a task; numbers out of range and the task itself are skipped. Tasks must not wait for each other in a
// circle.
func Run(n, limit int, before func(task int) []int, do func(task int)) {
	done := make([]chan struct{}, n)
	for i := range done {
		done[i] = make(chan struct{})
	}
	running := make(chan struct{}, limit)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			defer close(done[i])
			for _, first := range before(i) {
				if first != i && 0 <= first && first < n {
					<-done[first]
				}
			}
			running <- struct{}{}
			defer func() { <-running }()
			do(i)
		})
	}
	all.Wait()
}
