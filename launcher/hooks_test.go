package launcher

import (
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

func TestHookStep(t *testing.T) {
	for want, argv := range map[string][]string{
		`post_up[1] "psql -f /x.sql"`:                          {"psql", "-f", "/x.sql"},
		`post_up[1] "sh -c one\ntwo\x1b[31m"`:                  {"sh", "-c", "one\ntwo\x1b[31m"},
		`post_up[1] "echo ` + strings.Repeat("ä", 55) + `..."`: {"echo", strings.Repeat("ä", 100)},
	} {
		testkit.WantText(t, hookStep(1, argv), want)
	}
}

func TestTypedHooks(t *testing.T) {
	l := &Launcher{Store: &box.Store{Dir: "/run/boxrun", Home: "/root"}}
	p := profiles.Profile{Name: "web", Hooks: profiles.Hooks{PostUp: [][]string{{"systemctl", "start", "a"}, {"sh", "-c", "echo $HOME"}}}}
	typed := func(b *box.Box) []string { return l.typedHooks(b, dueHooks(b, p)) }
	testkit.WantText(t, strings.Join(typed(&box.Box{Name: "web", HooksDue: true}), "\n"), `# hooks.post_up, when the box is ready
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux LANG=C.UTF-8 container=apptainer `+
		`apptainer -q -c /run/boxrun/apptainer.conf exec --drop-caps CAP_SYS_BOOT,CAP_SYS_RAWIO --cwd / instance://web systemctl start a < /dev/null
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux LANG=C.UTF-8 container=apptainer `+
		`apptainer -q -c /run/boxrun/apptainer.conf exec --drop-caps CAP_SYS_BOOT,CAP_SYS_RAWIO --cwd / instance://web sh -c 'echo $HOME' < /dev/null`)
	testkit.WantText(t, strings.Join(typed(&box.Box{Name: "web"}), "\n"), "")
}
