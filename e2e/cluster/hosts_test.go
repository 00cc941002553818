package cluster

import (
	"bufio"
	"context"
	"embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

//go:embed testdata
var testdata embed.FS

// patience is how long any one command may take.
const patience = time.Minute

// site is the cluster, with its client and its power switch.
type site struct {
	t     *testing.T
	hosts []*testhost.Host
	probe string // on the machine, for the client
	box   string // to which things happen
}

// threeHosts boots the hosts, and removes them at the end of the test.
func threeHosts(t *testing.T) []*testhost.Host {
	t.Helper()
	hosts, err := testhost.NewCluster(t.Context(), 3, func(step string) { t.Log(step) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := testhost.CloseAll(hosts); err != nil {
			t.Error(err)
		}
	})
	return hosts
}

func newSite(t *testing.T) site {
	t.Helper()
	hosts := threeHosts(t)
	bin := t.TempDir()
	if err := testhost.Build(t.Context(), bin); err != nil {
		t.Fatal(err)
	}
	s := site{t, hosts, filepath.Join(bin, "probe"), "web"}
	for _, h := range hosts {
		if err := h.Install(t.Context(), bin); err != nil {
			t.Fatal(err)
		}
	}
	s.everywhere(func(n int) {
		if err := hosts[n-1].CopyTree("../../cluster/ocf/box", "/usr/lib/ocf/resource.d/boxrun/box"); err != nil {
			t.Error(err)
		}
		s.write(n, "fence_switch", "/usr/sbin/fence_switch", 0o755)
		s.write(n, "corosync.conf", "/etc/corosync/corosync.conf", 0o644)
		s.write(n, "web.toml", "/etc/boxrun/profiles/web.toml", 0o644)
	})
	s.write(1, "writer", testhost.SharedDir+"/data/writer", 0o755)
	s.playSwitch()
	return s
}

// in gives the same site for a subtest.
func (s site) in(t *testing.T) site {
	s.t = t
	return s
}

// write makes a file of the nth host, as in testdata.
func (s site) write(n int, name, path string, mode os.FileMode) {
	s.t.Helper()
	text, err := testdata.ReadFile("testdata/" + name)
	if err == nil {
		err = s.hosts[n-1].Write(s.t.Context(), path, mode, strings.NewReader(string(text)))
	}
	if err != nil {
		s.t.Error(err)
	}
}

// profile writes a profile on all hosts.
func (s site) profile(name, text string) {
	s.t.Helper()
	s.everywhere(func(n int) {
		if err := s.hosts[n-1].Write(s.t.Context(), "/etc/boxrun/profiles/"+name+".toml", 0o644, strings.NewReader(text)); err != nil {
			s.t.Error(err)
		}
	})
}

// everywhere does something on all hosts at once.
func (s site) everywhere(do func(n int)) {
	var all sync.WaitGroup
	for i := range s.hosts {
		all.Go(func() { do(i + 1) })
	}
	all.Wait()
}

// run runs a script on the nth host, however it ends.
func (s site) run(n int, script string) (testhost.Result, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	return s.hosts[n-1].Exec(ctx, "bash", "-ec", script)
}

// must runs a script on the nth host that has to succeed, and gives its stdout.
func (s site) must(n int, script string) string {
	s.t.Helper()
	r, err := s.run(n, script)
	if err != nil || r.Code != 0 {
		s.t.Fatalf("node%d: %s: %v %v", n, script, err, r)
	}
	return strings.TrimSpace(r.Stdout)
}

// playSwitch has the client be the power switch that fence_switch asks.
func (s site) playSwitch() {
	s.t.Helper()
	cmd, out := s.onClient("switch", testhost.LinkAddr(100)+":8080")
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(in, s.switched(lines.Text()))
		}
	}()
	s.t.Cleanup(func() { _ = cmd.Cancel(); _ = cmd.Wait() })
}

// switched does what the power switch was asked for, as "off/node2".
func (s site) switched(words string) string {
	verb, name, _ := strings.Cut(words, "/")
	for i, h := range s.hosts {
		if verb != "status" && name == testhost.NodeName(i+1) {
			if err := h.Kill(); err != nil {
				return err.Error()
			}
		}
	}
	return "done"
}

// onClient gives a command of probe for the client, which ends with the test, and its stdout.
func (s site) onClient(args ...string) (*exec.Cmd, io.Reader) {
	s.t.Helper()
	cmd := s.hosts[0].ClientCommand(s.t.Context(), append([]string{s.probe}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	return cmd, out
}

// eventually tries until try says "", and fails with what it said last after the time is over.
func (s site) eventually(within time.Duration, try func() string) {
	s.t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		said := try()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("after %v: %s", within, said)
		}
	}
}
