package cluster

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os/exec"
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
	s.everywhere(func(n int) {
		if err := s.hosts[n-1].Write(s.t.Context(), "/etc/boxrun/profiles/db.toml", 0o644, strings.NewReader(profile)); err != nil {
			s.t.Error(err)
		}
	})
	s.must(1, configuration)
	s.box = "db"
	s.together()
	s.must(s.holder(), `boxrun exec db -- sh -ec '
echo host all all all trust >> /etc/postgresql/15/main/pg_hba.conf
echo "listen_addresses = '"'*'"'" >> /etc/postgresql/15/main/postgresql.conf
systemctl restart postgresql@15-main'
boxrun exec -u postgres db -- psql -qc "create table log (n bigint primary key)"`)
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

// survives does to the database what happens to boxes and hosts: nothing that was acknowledged is lost.
func (d database) survives(t *testing.T, rounds int) {
	for _, e := range databaseEvents() {
		t.Run("database, "+e.name, func(t *testing.T) {
			d := database{d.in(t), d.writer}
			for range rounds {
				longest, _ := d.suffer(e, d.writer)
				d.has()
				d.ownedBy(d.holder())
				t.Logf("%v without a commit, %d committed so far", longest, len(d.writer.since(time.Time{})))
			}
		})
	}
}

func databaseEvents() []event {
	return []event{
		{"init killed", 0, site.killInit, site.forget},
		{"planned move", 0, site.move, site.stay},
		{"host crash", 0, site.crash, site.reboot},
		{"cable pulled", 0, site.pullCable, site.reboot},
	}
}
