package screen

import (
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
		80:  "a-long-name-of-a-box|running|80 443 8080->80 8443->..|web.sif (image changed)",
		40:  "a-long-name-of-a-box|runn..|80 4..|web...",
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
