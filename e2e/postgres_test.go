package e2e

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"
)

// database is a host with PostgreSQL in a box that keeps its root.
type database struct{ host }

const databaseUnit = "postgresql@15-main.service"

func newDatabase(t *testing.T) database {
	d := database{newHost(t)}
	if err := d.AddPostgres(t.Context(), func(step string) { t.Log(step) }); err != nil {
		t.Fatal(err)
	}
	d.profile("db", `image = "/srv/postgres"
[storage]
root    = "overlay"
overlay = "/var/kept"
[systemd]
stop_timeout = "5s"
[ready]
units = ["`+databaseUnit+`"]
`)
	d.must("boxrun", "up", "db")
	d.sql("create table log (n bigint primary key)")
	return d
}

// sql asks the database.
func (d database) sql(query string) string {
	d.t.Helper()
	return strings.TrimSpace(d.must("boxrun", "exec", "-u", "postgres", "db", "--", "psql", "-qtAc", query))
}

// write has the database commit one number after the other, from first on, and gives a function that waits for the end of
// that and says which was the last one that the database has said to be committed.
func (d database) write(first int) (acknowledged func() int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	cmd := d.Command(ctx, "bash", "-c", `seq `+strconv.Itoa(first)+` 99999999 | sed 's/.*/insert into log values (&) returning n;/' |
		boxrun exec -T -u postgres db -- psql -qtA 2> /dev/null`)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	return func() int {
		defer cancel()
		_ = cmd.Wait() // it ends when the database does
		whole, _ := cutLast(out.String(), "\n")
		_, last := cutLast(whole, "\n")
		n, err := strconv.Atoi(last)
		if err != nil {
			d.t.Fatalf("the database acknowledged %q", last)
		}
		return n
	}
}

// cutLast cuts s around the last sep; where there is none, all of it is after.
func cutLast(s, sep string) (before, after string) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+len(sep):]
}

// has wants all numbers up to the last acknowledged one, and no gap.
func (d database) has(last int) {
	d.t.Helper()
	count, highest, _ := strings.Cut(d.sql("select count(*), max(n) from log"), "|")
	n, err := strconv.Atoi(highest)
	if err != nil || n < last || count != highest {
		d.t.Errorf("the database has %s rows up to %s, want all up to %d at least", count, highest, last)
	}
	d.t.Logf("%d rows were acknowledged, %s are there", last, highest)
}

// started gives what the database said when it was started the last time.
func (d database) started() string {
	d.t.Helper()
	log := d.must("boxrun", "exec", "db", "--", "cat", "/var/log/postgresql/postgresql-15-main.log")
	_, last := cutLast(log, "starting PostgreSQL")
	return last
}

// A database under load is shut down in order, whoever has its box go, and loses nothing it has said to be committed.
func TestADatabaseIsShutDownInOrder(t *testing.T) {
	d := newDatabase(t)
	next := 1
	for _, way := range []struct {
		name string
		run  func()
	}{
		{"down", func() { d.must("boxrun", "down", "db"); d.must("boxrun", "up", "db") }},
		{"restart", func() { d.must("boxrun", "restart", "db") }},
		{"shutdown of the host", func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := d.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			if err := d.Boot(ctx); err != nil {
				t.Fatal(err)
			}
			d.must("boxrun", "up", "db")
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			d := database{d.in(t)}
			acknowledged := d.write(next)
			time.Sleep(time.Second)
			way.run()
			d.has(acknowledged())
			if log := d.started(); !strings.Contains(log, "database system was shut down at") || strings.Contains(log, "not properly shut down") {
				t.Errorf("the database started with\n%s\nwant that it was shut down", log)
			}
			highest, err := strconv.Atoi(d.sql("select max(n) from log"))
			if err != nil {
				t.Fatal(err)
			}
			next = highest + 1
		})
	}
}

// A database that hangs is named as what is waited for, and killed with all of its box when the time is over; what it has
// committed is there after.
func TestADatabaseThatHangsIsKilled(t *testing.T) {
	d := newDatabase(t)
	acknowledged := d.write(1)
	time.Sleep(time.Second)
	d.must("boxrun", "exec", "db", "--", "sh", "-c", "kill -STOP $(head -n 1 /var/lib/postgresql/15/main/postmaster.pid)")
	r := d.run("boxrun", "down", "db")
	if r.Code != 6 || !containsAll(r.Stderr, []string{"waiting for " + databaseUnit + " to stop", "did not stop within 5s and was killed"}) {
		t.Errorf("down: %v\nwant exit code 6, and a word about %s", r, databaseUnit)
	}
	if got := d.sh("pgrep -a postgres || true"); got != "" {
		t.Errorf("processes of the box live on:\n%s", got)
	}
	last := acknowledged()
	d.must("boxrun", "up", "db")
	d.has(last)
}
