package apptainer

import (
	"fmt"
	"testing"

	"boxrun/launcher/testkit"
)

func TestAssignments(t *testing.T) {
	a := Installation{site: assignments("# allow setuid = no\nallow setuid = yes\nmax = 1\nmax = 2\n  spaced name =  a = b\n")}
	testkit.WantText(t, fmt.Sprintf("%q %q %q %q", a.Setting("allow setuid"), a.Setting("max"), a.Setting("spaced name"), a.Setting("root default capabilities")),
		`"yes" "2" "a = b" "full"`)
}
