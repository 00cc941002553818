package process

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"boxrun/launcher/testkit"
)

func TestOwnCgroup(t *testing.T) {
	const session = "/user.slice/user-0.slice/session-3.scope"
	for name, test := range map[string]struct {
		path   string
		others []string
		want   string
	}{
		"a scope":                     {"/system.slice/apptainer-174.scope/init.scope", []string{session}, "/system.slice/apptainer-174.scope true"},
		"one of another init":         {"/system.slice/apptainer-174.scope", []string{session}, "/system.slice/apptainer-174.scope true"},
		"without systemd on the host": {"/apptainer/174/init.scope", []string{"/"}, "/apptainer/174 true"},
		"the caller's":                {session + "/init.scope", []string{session}, " false"},
		"above the caller's":          {"/user.slice", []string{session}, " false"},
		"a name that begins the same": {"/user.slice/user-0.slice/session-3", []string{session}, "/user.slice/user-0.slice/session-3 true"},
		"the root":                    {"/", []string{session}, " false"},
		"the root, with systemd":      {"/init.scope", []string{"/"}, " false"},
		"outside of what is mounted":  {"/../../x", []string{"/"}, " false"},
	} {
		t.Run(name, func(t *testing.T) {
			own, ok := OwnCgroup(test.path, test.others)
			testkit.WantText(t, fmt.Sprintf("%s %v", own, ok), test.want)
		})
	}
}

func TestCgroupOfTheCaller(t *testing.T) {
	init := shell(t, "READY; exec sleep 60")
	own, err := CgroupOf(init.PID)
	testkit.WantText(t, fmt.Sprintf("%s %v", own, err), " <nil>") // it shares the test's
	if _, err := CgroupOf(1 << 30); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("got %v, want %v", err, os.ErrProcessDone)
	}
}
