package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// await waits until the box is ready, and notes in up which units failed at boot. ErrNotReady: it is not, and stays.
func (l *Launcher) await(ctx context.Context, b *Box, o UpOptions, up *Up) error {
	want := b.Profile.Ready
	timeout := want.Timeout
	if o.Timeout != nil {
		timeout = *o.Timeout
	}
	addr, err := b.readyAddr()
	if err != nil {
		return err
	}
	r := readiness{
		Init: b.Init, Addr: addr, Timeout: timeout, Units: want.Units, TCP: want.TCP, HTTP: want.HTTP,
		Live: l.Live, Tail: l.tailOf(b),
	}
	done, err := r.wait(ctx)
	up.Failed = done.Failed
	var late *notReady
	if !errors.As(err, &late) {
		return err
	}
	up.Failed = late.Failed
	return &Problem{Kind: ErrNotReady, Text: b.Name + ": " + late.Error(),
		Hint: fmt.Sprintf("the box stays up, to be looked at: \"boxrun shell %s\", \"boxrun logs %s\"", b.Name, b.Name)}
}

// tailTimeout bounds the look at one unit's journal.
const tailTimeout = 5 * time.Second

// tailOf gives a function that reads the end of a unit's journal in the box. What keeps it from that is what it gives
// for the journal: the unit failed all the same.
func (l *Launcher) tailOf(b *Box) func(context.Context, string, int) []string {
	return func(ctx context.Context, unit string, n int) []string {
		ctx, cancel := context.WithTimeout(ctx, tailTimeout)
		defer cancel()
		var out bytes.Buffer
		_, err := runIn(ctx, l.ref(b), Exec{
			Argv:   []string{"journalctl", "--no-pager", "-q", "-o", "cat", "-n", strconv.Itoa(n), "-u", unit},
			Stdout: &out, Stderr: &out,
		})
		if err != nil {
			return []string{err.Error()}
		}
		return strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	}
}

// ref gives what entering the box depends on.
func (s *Store) ref(b *Box) boxRef {
	return boxRef{Name: b.Name, PID: b.Init.PID, Conf: s.conf(), Home: s.Home, Record: b.Record, Dir: s.boxDir(b.Name)}
}

// Exec runs a command in a box that is up, and gives its exit code; with an error, one of CodeBoxrun, CodeNotRunable
// and CodeNotFound. ErrNotFound: the box is not up.
func (s *Store) Exec(ctx context.Context, name string, e Exec) (code int, err error) {
	b, err := s.find(name)
	if err != nil {
		return CodeBoxrun, err
	}
	if !b.alive() {
		return CodeBoxrun, notUp(b)
	}
	return runIn(ctx, s.ref(b), e)
}

// logs gives Apptainer's files about the box: what init said, and why it did not start.
func (b *Box) logs() []logFile {
	return []logFile{{Path: b.Log, From: b.LogFrom}, {Path: b.outLog(), From: b.OutFrom}}
}
