package watch

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/health"
	"boxrun/launcher/process"
	"boxrun/launcher/undone"
)

// settle is how long a change may go on before its repair: whoever replaces rules, links or addresses does so in steps.
const settle = 200 * time.Millisecond

// alone is how long a repair may take before a further change ends the repair for a new repair. The repair may wait for
// another boxrun. The first moments do not count: the sources tell of the repair's own changes too.
const alone = time.Second

// A watcher knows whether anything has changed since its last repair.
type watcher struct {
	store   *box.Store
	log     io.Writer      // of the repairs
	left    []string       // what the last repair has left, as that repair told
	changed chan time.Time // of changes; buffered: of changes while nobody listens the first counts
	failed  chan error     // the error of a failed source
	lans    lans
	written written
	authors authors
	writers writers
}

// A source starts to tell the watcher of changes of one kind, and goes on until ctx ends. Its error is of the start; a
// later error goes to the watcher's channel failed.
type source func(ctx context.Context, w *watcher) error

// Run runs "boxrun repair" after every change of the host, until ctx ends. The messages of the repairs go to log. Run tells
// systemd when all sources are open. Run returns an error when a source fails: systemd starts the watch anew.
func Run(ctx context.Context, s *box.Store, log io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &watcher{store: s, log: log, changed: make(chan time.Time, 1), failed: make(chan error, 1), lans: lans{}}
	for _, open := range []source{watchRoutes, watchRules, watchIPsec, watchResolvers, watchFirewalld} {
		if err := open(ctx, w); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fault.Wrap("telling systemd that the watch is up", err)
	}
	if err := leaveStart(); err != nil {
		s.Notef("the watch takes more memory than it needs: %v", err)
	}
	w.tell() // something may have changed before the sources were open
	return w.loop(ctx)
}

// tell notes a change.
func (w *watcher) tell() {
	select {
	case w.changed <- time.Now():
	default:
	}
}

// fail ends the watch.
func (w *watcher) fail(err error) {
	select {
	case w.failed <- err:
	default:
	}
}

// loop repairs after each change, and when a repair is due that the last one has left for later, as package undone has it. A
// program that changes things all the time has the watch look once a second, after thirty changes in a row.
func (w *watcher) loop(ctx context.Context) error {
	pace := rate.NewLimiter(rate.Every(time.Second), 30)
	for {
		rest()
		due, stop := later(undone.Next(w.store))
		var at time.Time // of the change, or of now
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.failed:
			return err
		case at = <-w.changed:
		case at = <-due:
		}
		stop()
		if pace.Wait(ctx) != nil || process.Sleep(ctx, settle) != nil {
			return nil
		}
		w.drain()
		if w.repair(ctx, at); ctx.Err() != nil {
			return nil
		}
		if err := cmp.Or(w.lans.follow(ctx, w), w.written.follow(ctx, w), w.writers.follow(ctx, w)); err != nil {
			return err
		}
	}
}

// later returns a channel that tells when a time has come, and what ends the wait; none for the zero time: then nothing wakes up.
func later(at time.Time) (due <-chan time.Time, stop func() bool) {
	if at.IsZero() {
		return nil, func() bool { return false }
	}
	t := time.NewTimer(min(time.Until(at), time.Minute)) // the clock may have been set back
	return t.C, t.Stop
}

// drain forgets a change, because the next repair looks at everything anyway.
func (w *watcher) drain() {
	select {
	case <-w.changed:
	default:
	}
}

// repair runs "boxrun repair" after a change at a time, and logs what that tells of. A further change while the repair waits
// ends the repair, and is left for the next.
func (w *watcher) repair(ctx context.Context, at time.Time) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var said bytes.Buffer
	change := undone.Change{At: at, By: w.authors.take()}
	cmd := exec.CommandContext(ctx, w.store.Exe, "repair", "--quiet", "--after", change.String())
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.Stdout, cmd.Stderr = &said, &said
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer w.authors.repaired()
		if err := cmd.Run(); err != nil && ctx.Err() == nil {
			w.store.Notef("boxrun repair: %v", err)
		}
		w.note(said.String())
	}()
	select {
	case <-done:
	case <-time.After(alone):
	}
	select {
	case <-done:
	case <-w.changed:
		cancel()
		<-done
		w.tell()
	}
}

// note logs what a repair said. What nobody mends is logged once, until a repair finds nothing of that: the next repair may come
// at any moment.
func (w *watcher) note(said string) {
	var left []string
	for line := range strings.Lines(said) {
		if strings.Contains(line, health.StillDrifted) {
			left = append(left, line)
		}
		if !slices.Contains(w.left, line) {
			_, _ = io.WriteString(w.log, line) // nobody is left to tell of an error
		}
	}
	w.left = left
}
