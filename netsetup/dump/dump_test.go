package dump

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestDumpIsAskedForAgain(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name    string
		answers []error
		want    string
	}{
		{"whole at once", []error{nil}, "[1] <nil>"},
		{"interrupted twice", []error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, "[3] <nil>"},
		{"another error", []error{broken, nil}, "[1] broken"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := 0
			list, err := Retry(func() ([]int, error) {
				asked++
				return []int{asked}, test.answers[asked-1]
			})
			if got := fmt.Sprint(list, " ", err); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestDumpGivesUp(t *testing.T) {
	_, err := Retry(func() ([]int, error) { return nil, netlink.ErrDumpInterrupted })
	if !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Errorf("got  %v\nwant %v", err, netlink.ErrDumpInterrupted)
	}
}
