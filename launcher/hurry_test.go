package launcher

import (
	"testing"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/files"
	"boxrun/launcher/processtest"
)

// A down with a timeout ends the stop that another boxrun is at; a box that nobody stops it leaves to the down itself.
func TestHurry(t *testing.T) {
	for _, c := range []struct {
		phase  box.Phase
		killed bool
	}{{box.Stopping, true}, {box.Running, false}} {
		t.Run(string(c.phase), func(t *testing.T) {
			t.Parallel()
			l := &Launcher{Store: &box.Store{Dir: t.TempDir(), Home: t.TempDir()}}
			b := boxtest.At(t, "web", "10.22.0.2", "web", "sbr0")
			b.Phase, b.Init = c.phase, processtest.Shell(t, `READY; sleep 60`)
			if err := l.Save(b); err != nil {
				t.Fatal(err)
			}
			end := l.hurry(t.Context(), "web", 100*time.Millisecond)
			for began := time.Now(); b.Init.Alive() && time.Since(began) < 2*time.Second; {
				time.Sleep(10 * time.Millisecond)
			}
			if killed := end() != nil; killed != c.killed || b.Init.Alive() == c.killed {
				t.Errorf("killed %v, alive %v, want killed %v", killed, b.Init.Alive(), c.killed)
			}
			if end() != nil != c.killed {
				t.Error("the second end differs from the first")
			}
			if marked := files.Exists(l.hurryMark("web")); marked && !c.killed {
				t.Error("marked as killed")
			}
		})
	}
}
