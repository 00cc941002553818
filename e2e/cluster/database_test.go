package cluster

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// dbAddress is the virtual address of the database.
const dbAddress = "198.51.100.51"

// connection has psql give up soon on a host that is gone.
const connection = "host=" + dbAddress + " user=postgres connect_timeout=1 keepalives_idle=1 keepalives_interval=1 keepalives_count=1 tcp_user_timeout=1000"

// database is the site with the box of a database, and somebody who commits to the database through all that happens.
type database struct {
	site
	writer *client
}

// newDatabase has the cluster run a database in place of the page.
func (s site) newDatabase(profile, configuration string) database {
	s.t.Helper()
	s.must(1, "crm_resource -r web --meta -p target-role -v Stopped")
	if err := s.hosts[0].SharePostgres(s.t.Context(), func(step string) { s.t.Log(step) }); err != nil {
		s.t.Fatal(err)
	}
	s.must(1, `cd `+testhost.SharedPostgresImage+`/etc/postgresql/15/main
echo host all all all trust >> pg_hba.conf
echo "listen_addresses = '*'" >> postgresql.conf`)
	s.profile("db", profile)
	s.must(1, configuration)
	s.box = "db"
	s.together()
	s.must(s.holder(), `boxrun exec -u postgres db -- psql -qc "create table log (n bigint primary key)"`)
	d := database{s, &client{}}
	d.commit()
	s.answers(d.writer)
	return d
}

// commit has somebody commit one number after the other until the test ends, and note what the database acknowledged. A
// number that got no answer is not committed again: the database may have the number.
func (d database) commit() {
	stop := make(chan struct{})
	d.t.Cleanup(func() { close(stop) })
	go func() {
		for next := 1; ; {
			select {
			case <-stop:
				return
			default:
				next = d.session(next)
			}
		}
	}()
}

// session commits numbers from next on until the connection breaks, and returns the number to begin with after.
func (d database) session(next int) int {
	cmd := d.hosts[0].Borrow(d.t.Context(), "psql", "-XqtA", connection)
	in, err := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	asked := time.Now()
	if err == nil && outErr == nil && cmd.Start() == nil {
		next = d.converse(cmd, in, bufio.NewScanner(out), next)
	}
	d.writer.note(answer{asked, "-"})
	time.Sleep(time.Until(asked.Add(every)))
	return next
}

// converse commits a number every 50 ms, while psql answers in time.
func (d database) converse(cmd *exec.Cmd, in io.WriteCloser, lines *bufio.Scanner, next int) int {
	defer func() { _ = cmd.Cancel(); _ = cmd.Wait() }()
	for {
		asked := time.Now()
		overdue := time.AfterFunc(settles, func() { _ = cmd.Cancel() })
		_, err := fmt.Fprintf(in, "insert into log values (%d) returning n;\n", next)
		answered := err == nil && lines.Scan() && lines.Text() == strconv.Itoa(next)
		overdue.Stop()
		next++
		if !answered {
			return next
		}
		d.writer.note(answer{asked, lines.Text()})
		time.Sleep(time.Until(asked.Add(every)))
	}
}

// has wants the database to have every number that was acknowledged.
func (d database) has() {
	d.t.Helper()
	acknowledged := map[string]bool{}
	for _, a := range d.writer.since(time.Time{}) {
		if a.body != "-" {
			acknowledged[a.body] = true
		}
	}
	for n := range strings.Lines(d.must(d.holder(), "boxrun exec -u postgres db -- psql -XqtAc 'select n from log'") + "\n") {
		delete(acknowledged, strings.TrimSpace(n))
	}
	if len(acknowledged) > 0 {
		d.t.Errorf("the database lacks %d numbers that it acknowledged, as %v", len(acknowledged), slices.Sorted(maps.Keys(acknowledged))[0])
	}
}

// ownedBy wants the mark on the data to name the host that has the box.
func (d database) ownedBy(holder int) {
	d.t.Helper()
	if got, want := d.must(holder, "jq -r .host /srv/shared/db/boxrun-owner.json"), testhost.NodeName(holder); got != want {
		d.t.Errorf("the data is marked as of %s, want %s", got, want)
	}
}

// refusedElsewhere has somebody start the database on another host, by hand: the mark on the data forbids it.
func (d database) refusedElsewhere() {
	d.t.Helper()
	holder := d.holder()
	r, err := d.run(other(holder), "boxrun up db")
	if err != nil || r.Code != 1 || !strings.Contains(r.Stderr, `is the overlay of box "db" on the machine `+testhost.NodeName(holder)) {
		d.t.Errorf("up on another host: %v %v", err, r)
	}
}

// update brings another boxrun to one host after the other, as the page has it.
func (d database) update() {
	d.t.Helper()
	next := filepath.Join(d.t.TempDir(), "boxrun")
	build := exec.CommandContext(d.t.Context(), "go", "build", "-ldflags", "-s -w -X main.version=next", "-o", next, "boxrun/cmd/boxrun")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
	for n, h := range d.hosts {
		d.standby(n + 1)
		d.must(n+1, "crm_resource --wait -T 40s; test -z \"$(boxrun ps --json | jq -r .[].name)\"")
		if err := h.Copy(d.t.Context(), next, "/usr/local/bin/boxrun"); err != nil {
			d.t.Fatal(err)
		}
		d.online(n + 1)
		d.together()
	}
	d.same("boxrun version | grep next")
}

// survives does to the database what happens to boxes and hosts: nothing that was acknowledged is lost.
func (d database) survives(t *testing.T, rounds int) {
	for _, e := range databaseEvents() {
		t.Run(e.name, func(t *testing.T) {
			d := database{d.in(t), d.writer}
			for range rounds {
				d.refusedElsewhere()
				longest, _ := d.suffer(e, d.writer)
				d.has()
				d.ownedBy(d.holder())
				t.Logf("%v without a commit, %d committed so far", longest, len(d.writer.since(time.Time{})))
			}
		})
	}
	t.Run("boxrun updated on all hosts", func(t *testing.T) {
		d := database{d.in(t), d.writer}
		began := time.Now()
		d.update()
		d.answers(d.writer)
		d.has()
		longest, _ := outage(d.writer.since(began))
		t.Logf("%v without a commit", longest)
	})
}

func databaseEvents() []event {
	return []event{
		{"init killed", 0, 0, site.killInit, site.forget},
		{"planned move", 0, 0, site.move, site.stay},
		{"host crash", 0, 0, site.crash, site.reboot},
		{"cable pulled", 0, 0, site.pullCable, site.reboot},
	}
}
