package host

import (
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
	"boxrun/netsetup"
)

// What a look has found is all that the dry run prints.
func TestResetCommands(t *testing.T) {
	stray := &box.Box{Name: "lost", Init: process.Process{PID: 7}, Master: process.Process{PID: 6}}
	web := &box.Box{Name: "web", Init: process.Process{PID: 9}, Master: process.Process{PID: 8}}
	traces := netsetup.Traces{Bridges: []string{"sbr0"}}
	for _, test := range []struct {
		name string
		r    reset
		want []string
	}{
		{"nothing", reset{}, nil},
		{"traces alone", reset{traces: traces}, []string{"ip link del sbr0"}},
		{"a box without a record", reset{strays: []*box.Box{stray}, traces: traces}, []string{"kill -s RTMIN+3 7",
			"while [ -e /proc/6 ]; do sleep 0.1; done", "ip link del sbr0 || true"}},
		{"a box with a record beside", reset{boxes: []string{"web"}, strays: []*box.Box{web, stray}, traces: traces,
			plans: []netsetup.Plan{{Owner: "boxrun:sbr0"}}}, []string{"kill -s RTMIN+3 7",
			"while [ -e /proc/6 ]; do sleep 0.1; done", "boxrun down web"}},
	} {
		testkit.WantText(t, strings.Join(test.r.stopCommands(), "\n"), strings.Join(test.want, "\n"))
	}
	const dir = "/etc/systemd/system/"
	enabled := reset{units: []string{dir + "multi-user.target.wants/boxrun@web.service", dir + "boxrun@web.service.d/profile.conf",
		dir + "boxrun@web.service.d", dir + "boxrun@.service"}}
	testkit.WantText(t, strings.Join(enabled.unitCommands(), "\n"), `systemctl disable -q boxrun@web.service
rm -f /etc/systemd/system/boxrun@web.service.d/profile.conf
rmdir --ignore-fail-on-non-empty /etc/systemd/system/boxrun@web.service.d 2>/dev/null || true
rm -f /etc/systemd/system/boxrun@.service
systemctl daemon-reload`)
}
