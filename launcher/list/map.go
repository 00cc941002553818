package list

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Map returns the results of of for the elements of from, in their order.
func Map[T, U any](from []T, of func(T) U) []U {
	made := make([]U, len(from))
	for i, element := range from {
		made[i] = of(element)
	}
	return made
}

// MapShared is Map with the work shared among the processors: of is called by several goroutines at once.
func MapShared[T, U any](from []T, of func(T) U) []U {
	made := make([]U, len(from))
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(from)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(from); i = int(next.Add(1)) - 1 {
				made[i] = of(from[i])
			}
		})
	}
	all.Wait()
	return made
}

// Concat returns the joined results of of for the elements of from, in their order. Concat stops at the first error.
func Concat[T, U any](from []T, of func(T) ([]U, error)) ([]U, error) {
	var all []U
	for _, element := range from {
		some, err := of(element)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}
