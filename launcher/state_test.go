package launcher

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// The state, which everyone can read, is the same whatever the values of variables: nobody can try which one it was.
func TestStateSaysNothingOfTheValuesOfVariables(t *testing.T) {
	l := &Store{Dir: t.TempDir(), Home: t.TempDir()}
	saved := func(value string) string {
		b, err := l.newBox(testkit.Profile("web", func(p *profiles.Profile) { p.Systemd.Environment = map[string]string{"PIN": value} }), "", 1500)
		if err != nil {
			t.Fatal(err)
		}
		b.Started = time.Time{}
		if err := l.save(b); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(l.boxFile("web"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	testkit.WantText(t, saved("1234"), saved("1235"))
}

// One file that cannot be read is no reason to leave the other boxes alone.
func TestBoxesBesideOneThatCannotBeRead(t *testing.T) {
	var notes []string
	l := &Store{Dir: t.TempDir(), Note: func(line string) { notes = append(notes, line) }}
	for _, name := range []string{"db", "web"} {
		if err := l.save(&Box{Name: name, Profile: testkit.Profile(name, func(*profiles.Profile) {})}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(l.boxFile("mail"), []byte(`{"version": 2, "state": {}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	boxes, err := l.boxes()
	testkit.WantText(t, strings.Join(nameList(boxes), " "), "db web")
	if !errors.Is(err, errUnreadable) {
		t.Fatalf("got %v, want %v", err, errUnreadable)
	}
	testkit.WantText(t, HintOf(err), `"boxrun down mail" stops the box and takes away what can be found by its name`)

	if err := l.forget(t.Context(), nil, "web"); err != nil { // it asks no kernel for what must stay
		t.Fatal(err)
	}
	testkit.WantText(t, strings.Join(notes, "\n"), "stays: the network that boxes share: state file "+l.boxFile("mail")+
		" is of version 2, this boxrun reads 1")
	testkit.WantText(t, strings.Join(testkit.Names(t, l.path("boxes")), " "), "db.json mail.json")
}

// A box is starting or stopping while a boxrun is at work on it: one that is killed tells nobody.
func TestStateOfABoxThatNobodyWorksOn(t *testing.T) {
	l := &Store{Dir: t.TempDir()}
	killed := exec.Command("sleep", "60")
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	worker, err := openProcess(killed.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = killed.Process.Kill(), killed.Wait()
	for _, phase := range []Phase{Starting, Stopping} {
		b := &Box{Name: "web", Profile: testkit.Profile("web", func(*profiles.Profile) {})}
		b.Phase = phase
		if b.BootID, err = bootID(); err != nil {
			t.Fatal(err)
		}
		if err := l.save(b); err != nil {
			t.Fatal(err)
		}
		if b, err = l.load("web"); err != nil {
			t.Fatal(err)
		}
		testkit.WantText(t, b.state(), string(phase))
		b.Worker = worker
		testkit.WantText(t, b.state(), "crashed")
	}
}

// A directory that cannot be read is not one without boxes.
func TestBoxesThatCannotBeListed(t *testing.T) {
	l := &Store{Dir: t.TempDir()}
	if boxes, err := l.boxes(); err != nil || len(boxes) != 0 {
		t.Errorf("got %v, %v of no directory, want no boxes", boxes, err)
	}
	if err := os.WriteFile(l.path("boxes"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := l.boxes()
	testkit.WantText(t, fmt.Sprint(err), "listing boxes: open "+l.path("boxes")+": not a directory")
}
