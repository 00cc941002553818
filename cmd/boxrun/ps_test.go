package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"boxrun/cmd/boxrun/rows"
	"boxrun/launcher"
	"boxrun/launcher/limits"
)

// Boxes with usual names fit a terminal of 80 columns; what is unusual widens the end of its own row alone.
func TestPsRows(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	boxes := []launcher.Status{
		{
			Name: "coldfront", State: "running", Address: "10.22.0.5", Ports: []string{"0.0.0.0:80->80/tcp", "0.0.0.0:443->443/tcp"},
			PID: 1, Started: now.Add(-47 * time.Hour), Usage: limits.Usage{Memory: 312 << 20}, Image: "/srv/images/coldfront.sif", Enabled: true,
		},
		{
			Name: "db", State: "running", Address: "10.22.0.6", Ports: []string{"0.0.0.0:53->53/udp"}, PID: 1,
			Started: now.Add(-119 * time.Minute), Usage: limits.Usage{Memory: 10 << 30}, Image: "/srv/db",
			Changed: []string{"profile", "image"}, Restarts: 2,
		},
		{Name: "hello", State: "running", Image: "builtin:hello", PID: 1, Started: now.Add(-119 * time.Second), Usage: limits.Usage{Memory: 5 << 19}},
		{Name: "mail", State: "crashed", Image: "/srv/mail.sif", Restarts: 5},
		{Name: "old", State: "running", PID: 1, Started: now.Add(-364 * 24 * time.Hour), Image: "/srv/old.sif"},
		{Name: "web", State: "down"},
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := newTerminal(nil, file, file).spaced(2, rows.Ps(boxes, now)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	const want = `NAME       STATE    ENABLED  ADDRESS    PORTS            UP    MEM   IMAGE
coldfront  running  yes      10.22.0.5  80->80 443->443  47h   312M  coldfront.sif
db         running  no       10.22.0.6  53->53/udp       119m  10G   db (profile, image changed; restarted 2x)
hello      running  no       -          -                119s  2.5M  builtin:hello
mail       crashed  no       -          -                -     -     mail.sif (restarted 5x)
old        running  no       -          -                364d  -     old.sif
web        down     no       -          -                -     -     -
`
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
