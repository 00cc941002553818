package list

import (
	"errors"
	"slices"
	"strconv"
	"testing"
)

func TestMap(t *testing.T) {
	if got, want := Map([]int{3, 1, 2}, strconv.Itoa), []string{"3", "1", "2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMapShared(t *testing.T) {
	from := make([]int, 1000)
	for i := range from {
		from[i] = i
	}
	if got, want := MapShared(from, strconv.Itoa), Map(from, strconv.Itoa); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := MapShared(nil, strconv.Itoa); len(got) > 0 {
		t.Errorf("of nothing got %q", got)
	}
}

func TestConcatStopsAtTheFirstError(t *testing.T) {
	var seen []int
	broken := errors.New("broken")
	twice := func(n int) ([]int, error) {
		seen = append(seen, n)
		if n < 0 {
			return []int{n}, broken
		}
		return []int{n, n}, nil
	}
	if got, err := Concat([]int{1, 2}, twice); err != nil || !slices.Equal(got, []int{1, 1, 2, 2}) {
		t.Errorf("got %v and %v, want [1 1 2 2]", got, err)
	}
	if got, err := Concat([]int{3, -1, 4}, twice); got != nil || !errors.Is(err, broken) {
		t.Errorf("got %v and %v, want the error", got, err)
	}
	if want := []int{1, 2, 3, -1}; !slices.Equal(seen, want) {
		t.Errorf("looked at %v, want %v", seen, want)
	}
}
