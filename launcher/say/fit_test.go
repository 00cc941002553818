package say

import (
	"slices"
	"strings"
	"testing"
)

func TestFit(t *testing.T) {
	rows := [][]string{
		{"NAME", "STATE", "PORTS", "IMAGE"},
		{"a-long-name-of-a-box", "running", "80 443 8080->80 8443->443 9000 9001/udp", "web.sif (image changed)"},
		{"db", "crashed", "-", "db.sif"},
	}
	for columns, want := range map[int]string{
		120: "a-long-name-of-a-box|running|80 443 8080->80 8443->443 9000 9001/udp|web.sif (image changed)",
		80:  "a-long-name-of-a-box|running|80 443 8080->80 8443-...|web.sif (image changed)",
		63:  "a-long-name-of-a-box|running|80 443 8080-...|web.sif (ima...",
		60:  "a-long-name-of-a-box|running|80 443 8080->80 8443->443 ...",
		40:  "a-long-name-of-a-box|running",
		20:  "a-long-n...|running",
		12:  "a-l...|r...",
	} {
		got := strings.Join(Fit(rows, 2, columns)[1], "|")
		if got != want {
			t.Errorf("%d columns: got\n%s\nwant\n%s", columns, got, want)
		}
	}
	if got := strings.Join(rows[1], "|"); !strings.HasSuffix(got, "changed)") {
		t.Errorf("the table itself was changed: %s", got)
	}
}

// Texts to be read whole go on below, under their beginning; words stay whole.
func TestFolded(t *testing.T) {
	rows := [][]string{
		{"state:", "running, up 5m, pid 12"},
		{"image:", "/srv/a/path/that/is/long (image changed)"},
		{"memory:", "  4.0M  of 8M"},
	}
	want := [][]string{
		{"state:", "running, up"}, {"", "5m, pid 12"}, {"image:", "/srv/a/path/that/is/long"}, {"", "(image"}, {"", "changed)"},
		{"memory:", "  4.0M  of"}, {"", "  8M"},
	}
	if got := Folded(rows, 2, 20); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if got := Folded(rows, 2, 60); !slices.EqualFunc(got, rows, slices.Equal) {
		t.Errorf("got\n%q\nwant the rows as they were", got)
	}
	if got := Folded(nil, 2, 60); got != nil {
		t.Errorf("got %q of no rows", got)
	}
}
