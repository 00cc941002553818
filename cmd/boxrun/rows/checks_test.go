package rows

import (
	"strings"
	"testing"

	"boxrun/launcher/doctor"
)

func TestProblemsComeFirst(t *testing.T) {
	checks := []doctor.Check{
		{Area: "host", Name: "kernel", Status: doctor.Pass, Found: "6.12"},
		{Area: "host", Name: "disk space", Status: doctor.Warn, Found: "9 MiB\x1b[2J free", Why: "boxes write there", Fix: "df -h /run"},
		{Area: "network", Name: "ip_forward", Status: doctor.Pass, Found: "1"},
		{Area: "web", Name: "state", Status: doctor.Fail, Found: "crashed"},
		{Area: "web", Name: "rules", Status: doctor.Pass, Found: "in place"},
		{Area: "web", Name: "out transfer", Status: doctor.Skip, Found: "no client network"},
	}
	const plain = `FAIL  web: state
      crashed

WARN  host: disk space
      9 MiB?[2J free
      why: boxes write there
      fix: df -h /run

PASS  host     1 of 2 checks
PASS  network  1 of 1 checks
PASS  web      1 of 3 checks
`
	if got := strings.Join(Problems(checks, false), "\n") + "\n"; got != plain {
		t.Errorf("got:\n%s\nwant:\n%s", got, plain)
	}
	coloured := strings.NewReplacer("FAIL", "\x1b[31mFAIL\x1b[0m", "WARN", "\x1b[33mWARN\x1b[0m", "PASS", "\x1b[32mPASS\x1b[0m").Replace(plain)
	if got := strings.Join(Problems(checks, true), "\n") + "\n"; got != coloured {
		t.Errorf("got:\n%q\nwant:\n%q", got, coloured)
	}
}
