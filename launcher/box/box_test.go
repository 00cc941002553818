package box

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// Everyone can read the state. The state is the same for all values of variables, so nobody can find a value by trying.
func TestStateSaysNothingOfTheValuesOfVariables(t *testing.T) {
	l := &Store{Dir: t.TempDir(), Home: t.TempDir()}
	saved := func(value string) string {
		b, err := l.New(testkit.Profile("web", func(p *profiles.Profile) { p.Systemd.Environment = map[string]string{"PIN": value} }), "", 1500)
		if err != nil {
			t.Fatal(err)
		}
		b.Started = time.Time{}
		if err := l.Save(b); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(l.BoxFile("web"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	testkit.WantText(t, saved("1234"), saved("1235"))
}

// A box is starting or stopping only while a boxrun works on it. A killed boxrun cannot say that it has stopped
// working.
func TestStateOfABoxThatNobodyWorksOn(t *testing.T) {
	l := &Store{Dir: t.TempDir()}
	killed := exec.Command("sleep", "60")
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	worker, err := process.Open(killed.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = killed.Process.Kill(), killed.Wait()
	for _, phase := range []Phase{Starting, Stopping} {
		b := &Box{Name: "web", Profile: testkit.Profile("web", func(*profiles.Profile) {})}
		b.Phase = phase
		if b.BootID, err = process.BootID(); err != nil {
			t.Fatal(err)
		}
		if err := l.Save(b); err != nil {
			t.Fatal(err)
		}
		if b, err = l.Load("web"); err != nil {
			t.Fatal(err)
		}
		testkit.WantText(t, b.State(), string(phase))
		b.Worker = worker
		testkit.WantText(t, b.State(), "crashed")
	}
}

// A directory that cannot be read is not one without boxes.
func TestBoxesThatCannotBeListed(t *testing.T) {
	l := &Store{Dir: t.TempDir()}
	if boxes, err := l.All(); err != nil || len(boxes) != 0 {
		t.Errorf("got %v, %v of no directory, want no boxes", boxes, err)
	}
	if err := os.WriteFile(l.Path("boxes"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := l.All()
	testkit.WantText(t, fmt.Sprint(err), "listing boxes: open "+l.Path("boxes")+": not a directory")
}
