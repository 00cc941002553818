package apptainer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"boxrun/launcher/process"
	"boxrun/launcher/processtest"
	"boxrun/launcher/testkit"
)

func TestArgvOfInstances(t *testing.T) {
	conf := "/run/boxrun/apptainer.conf"
	ours := []string{"apptainer", "-c", conf, "instance", "start", "--boot", "/srv/web", "web"}
	for name, test := range map[string]struct {
		argv        []string
		cli, master bool
	}{
		"our command line":             {ours, true, false},
		"by its path":                  {append([]string{"/usr/bin/apptainer"}, ours[1:]...), true, false},
		"a script":                     {append([]string{"/bin/sh"}, ours...), true, false},
		"of another box":               {append(ours[:7:7], "web2"), false, false},
		"of another configuration":     {[]string{"apptainer", "-c", "/etc/x", "instance", "start", "/srv/web", "web"}, false, false},
		"not ours":                     {[]string{"apptainer", "instance", "start", "--boot", "/srv/web", "web"}, false, false},
		"another verb":                 {[]string{"apptainer", "-c", conf, "instance", "list", "web"}, false, false},
		"an editor of a file so named": {[]string{"vi", "-x", "apptainer", "-c", conf, "instance", "start", "web"}, false, false},
		"cut short":                    {[]string{"apptainer"}, false, false},
		"the kernel's":                 {nil, false, false},
		"the master":                   {[]string{"Apptainer instance: root [web]"}, false, true},
		"another master":               {[]string{"Apptainer instance: root [web2]"}, false, false},
		"a user's master":              {[]string{"Apptainer instance: joe [web]"}, false, false},
		"a mention of the master":      {[]string{"grep", "Apptainer instance: root [web]"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := fmt.Sprint(startsInstance(test.argv, "web", conf), holdsInstance(test.argv, "web"))
			testkit.WantText(t, got, fmt.Sprint(test.cli, test.master))
		})
	}
}

// fakeStart runs a script as the command line that starts the instance name.
func fakeStart(t *testing.T, conf, name, script string) process.Process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "apptainer")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return processtest.Running(t, file, file, "-c", conf, "instance", "start", "--boot", "/srv/web", name)
}

func TestAwaitOrEnd(t *testing.T) {
	if os.Getuid() != 0 {
		testkit.Cannot(t, "processes of boxrun's are root's")
	}
	name, conf := testkit.UniqueName(t), "/run/boxrun/apptainer.conf"
	title := MasterTitle(name)
	find := func() Processes {
		t.Helper()
		procs, err := FindProcesses(name, conf)
		if err != nil {
			t.Fatal(err)
		}
		return procs
	}

	// The master of another start has not come so far, and its command line takes a while.
	other := fakeStart(t, "/etc/other.conf", name, "sleep 60")
	master := processtest.Running(t, title, "/bin/sh", "-c", "sleep 0.2; sleep 60 & wait")
	cli := fakeStart(t, conf, name, "sleep 0.3")
	want := fmt.Sprint(Processes{CLI: []process.Process{cli}, Masters: []process.Process{master}})
	testkit.Eventually(t, "only "+want+" are found", func() bool { return fmt.Sprint(find()) == want }) // a fork has its parent's name
	if err := AwaitOrEnd(t.Context(), conf, name, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if cli.Alive() || !master.Alive() {
		t.Errorf("after a start that ended by itself: command line alive %v, want false; master alive %v, want true", cli.Alive(), master.Alive())
	}

	stuck := fakeStart(t, conf, name, "sleep 60")
	if err := AwaitOrEnd(t.Context(), conf, name, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if stuck.Alive() || master.Alive() || !other.Alive() {
		t.Errorf("after a start that hung: command line alive %v, want false; master %v, want false; the stranger's %v, want true",
			stuck.Alive(), master.Alive(), other.Alive())
	}
	if err := AwaitOrEnd(t.Context(), conf, name, time.Second); err != nil {
		t.Errorf("with nothing to wait for: %v", err)
	}
}

// During a start the master's child goes by the master's name until it becomes the box's init.
func TestStartIsUnderWayBeforeInit(t *testing.T) {
	if os.Getuid() != 0 {
		testkit.Cannot(t, "processes of boxrun's are root's")
	}
	name := testkit.UniqueName(t)
	title := MasterTitle(name)
	parent := processtest.Running(t, title, "/bin/bash", "-c", fmt.Sprintf("(exec -a %q sleep 60) & wait", title))
	var procs Processes
	testkit.Eventually(t, "both run", func() bool {
		var err error
		procs, err = FindProcesses(name, "")
		return err == nil && len(procs.Masters) == 2 && HasChild(parent.PID)
	})
	underWay, err := procs.underWay()
	testkit.WantText(t, fmt.Sprint(underWay, err), "true <nil>")
}
