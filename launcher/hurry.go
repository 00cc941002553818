package launcher

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/guest"
	"boxrun/launcher/process"
)

// hurry kills the box after timeout, if another boxrun is stopping the box by then. Without hurry a down would wait for
// the lock as long as the other boxrun waits for the box. The other boxrun clears up. end ends hurry, and returns the
// reason for the kill; nil if hurry killed nothing. end may be called again.
func (l *Launcher) hurry(ctx context.Context, name string, timeout time.Duration) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- l.killStopping(ctx, name, timeout) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

// killStopping kills the box after timeout, as soon as a boxrun is stopping the box. killStopping returns the reason for
// the kill, or nil when ctx ended before. A kill that has begun is waited for.
func (l *Launcher) killStopping(ctx context.Context, name string, timeout time.Duration) (killed error) {
	for pause := timeout; process.Sleep(ctx, pause) == nil; pause = 50 * time.Millisecond {
		b, err := l.Load(name)
		if err != nil || b.Phase != box.Stopping || !b.SameBoot() || !b.Init.Alive() {
			continue
		}
		_ = os.WriteFile(l.hurryMark(name), nil, 0o600) // without the mark the other boxrun only says less
		if killed, err := guest.Kill(context.WithoutCancel(ctx), b.Init, b.Cgroup); err == nil {
			return killed
		}
	}
	return nil
}

// hurryMark is the path of an empty file that tells the boxrun at work on a box of a kill by another boxrun. The file
// goes with the files of the box.
func (l *Launcher) hurryMark(name string) string { return filepath.Join(l.BoxDir(name), "killed") }
