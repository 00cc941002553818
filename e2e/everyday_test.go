package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What people do with boxes every day, on one host: each part has boxes of its own.
func TestEveryday(t *testing.T) {
	all := newHost(t)
	for _, part := range []struct {
		name string
		try  func(host)
	}{
		{"environment and mask", host.systemdIsTold},
		{"secrets", host.keepsSecrets},
		{"secrets that are none", host.refusesSecrets},
		{"hooks", host.runsHooks},
		{"hooks cut short", host.runsHooksAgain},
		{"hooks at boot", host.runsHooksAtBoot},
		{"hints that are typed", host.typesHints},
		{"what fingers know", host.takesHabits},
		{"logs of several boxes", host.mergesLogs},
		{"logs that are followed", host.followsLogs},
		{"logs that are meant for the terminal", host.keepsTheTerminal},
		{"logs that outlive their boxes", host.keepsJournals},
	} {
		t.Run(part.name, func(t *testing.T) {
			h := all.in(t)
			defer h.run("boxrun", "down", "--all") // whatever failed, the next part begins with none
			part.try(h)
		})
	}
}

// gives wants the exact output of a command.
func (h host) gives(want string, argv ...string) {
	h.t.Helper()
	if got := h.must(argv...); got != want {
		h.t.Errorf("%s: got\n%s\nwant\n%s", strings.Join(argv, " "), got, want)
	}
}

// tells wants a verb to say all of words, and to end well.
func (h host) tells(words []string, argv ...string) {
	h.t.Helper()
	r := h.run(argv...)
	if r.Code != 0 || !containsAll(r.Stdout+r.Stderr, words) {
		h.t.Errorf("%s: %v\nwant exit code 0 and %q", strings.Join(argv, " "), r, words)
	}
}

// A service in the box has the variables as they were written, and a masked one does not run.
func (h host) systemdIsTold() {
	h.profile("told", `image = "/srv/web"
[systemd]
environment = { PLAIN = "two words", QUOTES = "a \"b\" \\c '", DOLLAR = "$HOME ${PLAIN} $$", PERCENT = "100%% %%i %%%%", EMPTY = "" }
mask        = ["cron.service", "systemd-logind.service", "dev-mqueue.mount"]
`)
	h.must("boxrun", "up", "told")
	h.gives(`DOLLAR=$HOME ${PLAIN} $$
EMPTY=
PERCENT=100% %i %%
PLAIN=two words
QUOTES=a "b" \c '
`, "boxrun", "exec", "told", "--", "sh", "-c", `systemd-run -q --wait --pipe env |
grep -E '^(PLAIN|QUOTES|DOLLAR|PERCENT|EMPTY)=' | sort`)
	h.gives("two words\n$HOME ${PLAIN} $$\n100% %i %%\nmine\n/root\n", "boxrun", "exec", "-e", "QUOTES=mine", "told", "--",
		"sh", "-c", `echo "$PLAIN"; echo "$DOLLAR"; echo "$PERCENT"; echo "$QUOTES"; echo "$HOME"`)
	h.gives("two words\n", "boxrun", "exec", "-u", "nobody", "told", "--", "printenv", "PLAIN")
	h.gives("masked\ninactive\n", "boxrun", "exec", "told", "--", "systemctl", "show", "-P", "LoadState", "-P", "ActiveState", "systemd-logind.service")
	h.gives("/dev/hugepages\n", "boxrun", "exec", "told", "--", "sh", "-c", "awk '$2 ~ \"^/dev/(mqueue|hugepages)$\" { print $2 }' /proc/mounts")
	r := h.run("boxrun", "exec", "told", "--", "systemctl", "start", "systemd-logind.service")
	if r.Code == 0 || !strings.Contains(r.Stderr, "is masked") {
		h.t.Errorf("starting it: %v, want it refused as masked", r)
	}
	if got := h.sh("cat /run/boxrun/boxes/told.json; boxrun up --dry-run told; ls -l /run/boxrun/boxes/told/conf/system.conf | cut -c-10"); strings.Contains(got, "two words") ||
		!strings.HasSuffix(got, "-rw-------\n") {
		h.t.Errorf("got\n%s\nwant no value for everyone to read", got)
	}
	h.sh(`sed -i 's/two words/another word/' /etc/boxrun/profiles/told.toml
boxrun status --json told | jq -e '.changed == ["profile"]'; boxrun diff told | grep 'systemd.environment: changed'
setpriv --reuid=65534 --regid=65534 --clear-groups boxrun ps --json | jq -e '.[0].changed == []'`)
}

// quotedCommand and quotedUp find a command, and an up, that a message says to type.
var (
	quotedCommand = regexp.MustCompile(`"(boxrun [^"]*)"`)
	quotedUp      = regexp.MustCompile(`"(boxrun up [^"]*)"`)
)

// What a hint says to type works, of an instance and of a profile that nobody but its path finds too; so do other verbs
// with the name that ps shows.
func (h host) typesHints() {
	h.profile("many", "image = \"builtin:hello\"\n")
	h.sh("install -D /etc/boxrun/profiles/many.toml /srv/p/lone.toml; install -D /etc/boxrun/profiles/many.toml /srv/p/new.toml")
	h.sh("sed -i '1cimage = \"new.sif\"\\nbuild.definition = \"new.def\"' /srv/p/new.toml")
	for _, c := range []struct{ arg, file, name string }{
		{"many@1", "/etc/boxrun/profiles/many.toml", "many-1"},
		{"/srv/p/lone.toml", "/srv/p/lone.toml", "lone"},
	} {
		h.must("boxrun", "up", c.arg)
		h.sh("sed -i '1ahostname = \"renewed\"' " + c.file)
		r := h.run("boxrun", "up", c.arg)
		found := quotedUp.FindStringSubmatch(r.Stderr)
		if r.Code != 0 || found == nil {
			h.t.Fatalf("up of the edited %s: %v\nwant a word about --replace", c.arg, r)
		}
		h.sh(found[1])
		h.gives("renewed\n", "boxrun", "exec", c.name, "--", "/usr/bin/hostname")
		h.must("boxrun", "restart", c.name)
		h.must("boxrun", "diff", c.name)
	}
	h.fails(1, []string{`run "boxrun build /srv/p/new.toml", or "boxrun up --build /srv/p/new.toml"`}, "boxrun", "up", "/srv/p/new.toml")
	h.must("boxrun", "enable", "many-1")
	h.sh("test -L /etc/systemd/system/multi-user.target.wants/boxrun@many@1.service")
	h.must("boxrun", "disable", "many-1")
	h.sh("test ! -e /etc/systemd/system/multi-user.target.wants/boxrun@many@1.service")
}

// Words of other tools do what they do there.
func (h host) takesHabits() {
	h.profile("slow", `image = "/srv/web"
[ready]
units = ["multi-user.target"]
[hooks]
post_up = [["systemd-run", "--unit=held", "-p", "ExecStop=/bin/sleep 60", "-p", "TimeoutStopSec=100", "sleep", "infinity"]]
`)
	h.must("boxrun", "enable", "--now", "slow")
	h.tells([]string{"slow  running  yes"}, "boxrun", "ps", "slow")
	h.sh(`boxrun exec -it slow -- true
boxrun exec slow -- sh -c 'echo quiet | systemd-cat -p info; echo loud word | systemd-cat -p err; journalctl --sync'
test "$(boxrun logs -p err -g 'loud w' -o cat --tail 1 slow)" = 'loud word'
boxrun logs -o json -p err -g loud slow | jq -e '.MESSAGE == "loud word"'
test -z "$(boxrun logs -g loud --until -1h -o cat slow)"
boxrun inspect --format json slow | jq -e '.name == "slow"'
mkdir /tmp/copied; boxrun cp -a slow:/etc/hostname /tmp/copied/; test -s /tmp/copied/hostname`)
	h.fails(3, []string{`"boxrun logs --tail=5 -u nginx slow"`}, "boxrun", "logs", "--tail", "5", "slow", "nginx")
	h.sh("boxrun logs --since 5m slow | grep -q 'loud word'; test -z \"$(boxrun logs --until 5m -g loud -o cat slow)\"")
	h.fails(2, []string{`"boxrun shell -u bob slow" enters slow as a user`}, "boxrun", "shell", "bob@slow")
	began := time.Now()
	h.fails(6, []string{"did not stop within 2s"}, "boxrun", "restart", "--all", "--timeout", "2")
	if took := time.Since(began); took > 40*time.Second {
		h.t.Errorf("restart --timeout 2 took %s", took)
	}
	h.hurriesDown()
	h.interruptsARestart()
	h.must("boxrun", "start", "-d", "hello")
	h.must("boxrun", "enable", "hello")
	h.must("boxrun", "disable", "--now", "slow", "hello")
	h.gives("[]\n", "boxrun", "ps", "--format", "json")
}

// The shorter of two timeouts counts, whichever down came first.
func (h host) hurriesDown() {
	began := time.Now()
	h.sh(`boxrun down -t 80 slow > /tmp/first 2>&1 & first=$!
until boxrun ps slow | grep stopping; do sleep 0.1; done
boxrun stop -t 0 slow > /tmp/second 2>&1
wait $first
grep -x 'boxrun: slow: is down, killed at once' /tmp/first
grep -x 'boxrun: slow: is down, killed at once' /tmp/second
test ! -e /run/boxrun/boxes/slow`)
	if took := time.Since(began); took > 40*time.Second {
		h.t.Errorf("the second down waited for the first: %s", took)
	}
}

// interruptsARestart presses Ctrl-C while the box of a restart stops: what the hint says to type brings the box up.
func (h host) interruptsARestart() {
	h.sh("sed 's/slow/lazy/; s/sleep 60/sleep 2/; s/held/lazy/' /etc/boxrun/profiles/slow.toml > /etc/boxrun/profiles/lazy.toml; boxrun up lazy")
	term := h.terminal("boxrun", "restart", "lazy")
	h.sh("timeout 20 sh -c 'until boxrun ps lazy | grep stopping; do sleep 0.05; done'")
	if err := term.Type("\x03"); err != nil {
		h.t.Fatal(err)
	}
	r, err := term.Wait(10 * time.Second)
	hinted := quotedCommand.FindStringSubmatch(r.Stdout)
	if err != nil || r.Code != 130 || hinted == nil {
		h.t.Fatalf("Ctrl-C in a restart: %v, %v, want a hint", r, err)
	}
	h.must(append(strings.Fields(hinted[1]), "lazy")...)
	h.tells([]string{"lazy  running"}, "boxrun", "ps", "lazy")
	h.must("boxrun", "down", "lazy")
}

// secretive gives a profile with secrets and one kind of root.
func secretive(root string) string {
	return `image = "/srv/web"
storage = { root = "` + root + `" }
[secrets]
password   = "/root/password"
"site.key" = "/root/site.key"
`
}

// On every kind of root a secret is for root in the box alone, and nowhere else to be seen; it goes with the box.
func (h host) keepsSecrets() {
	h.sh("umask 077; echo hunter-two > /root/password; head -c 100 /dev/urandom > /root/site.key; mkdir -p /var/kept")
	before := h.dump()
	h.profile("tmpfs", secretive("tmpfs"))
	h.profile("frozen", secretive("read-only"))
	h.profile("kept", strings.Replace(secretive("overlay"), `"overlay" }`, `"overlay", overlay = "/var/kept/secretive" }`, 1))
	h.profile("other", "image = \"/srv/web\"\n")
	for _, box := range []string{"tmpfs", "frozen", "kept"} {
		h.must("boxrun", "up", box)
		in := func(argv ...string) []string { return append([]string{"boxrun", "exec", box, "--"}, argv...) }
		h.gives("hunter-two\n", in("cat", "/etc/secrets/password")...)
		h.gives(h.must("sha256sum", "/root/site.key")[:64], in("sh", "-c", "sha256sum < /etc/secrets/site.key | tr -d ' \n-'")...)
		h.gives("700 0:0\n400 0:0\n", in("stat", "-c", "%a %u:%g", "/etc/secrets", "/etc/secrets/password")...)
		h.fails(1, []string{"Permission denied"}, "boxrun", "exec", "-u", "bob", box, "--", "cat", "/etc/secrets/password")
		h.fails(1, []string{"Read-only file system"}, in("touch", "/etc/secrets/new")...)
	}
	h.must("boxrun", "up", "other")
	h.fails(2, []string{"No such file"}, "boxrun", "exec", "other", "--", "ls", "/etc/secrets", "/run/boxrun")
	h.gives("", "bash", "-c", `{ ps -eo args; cat /proc/[0-9]*/environ; boxrun up --dry-run tmpfs; boxrun status --json tmpfs; boxrun ps --json
boxrun logs tmpfs; journalctl -q; grep -r '' /root/.apptainer; find /run/boxrun -type f ! -path '*/secrets/*' -exec cat {} +; } 2>/dev/null | tr '\0' '\n' | grep -a 'hunter[-]two'; true`)
	h.must("test", "-s", "/run/boxrun/boxes/tmpfs/secrets/password")
	h.fails(1, nil, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", "cat /run/boxrun/boxes/*/secrets/* 2> /dev/null")

	h.sh("boxrun down tmpfs; boxrun up --dry-run tmpfs > /tmp/plan; grep -c 'install -m 400 /root/' /tmp/plan; ! grep hunter-two /tmp/plan")
	h.must("boxrun", "up", "tmpfs")
	h.sh("echo hunter-three > /root/password") // the same file, with something else in it
	if r := h.run("boxrun", "up", "tmpfs"); r.Code != 0 || !strings.Contains(r.Stderr, "secrets.password has changed") {
		h.t.Errorf("up: %v, want the change told", r)
	}
	h.sh(`boxrun status --json tmpfs | jq -e '.changed == ["secrets"]'; boxrun status --json kept | jq -e '.changed == ["secrets"]'; boxrun status --json other | jq -e '.changed == []'`)
	h.gives("profile:   secrets.password: the file has changed\n", "boxrun", "diff", "tmpfs")
	h.gives(`{"name":"tmpfs","profile":[],"secrets":["password"],"image":"","definition":"","drift":[]}`+"\n", "sh", "-c", "boxrun diff --json tmpfs | jq -c")
	h.tells([]string{"tmpfs: starts anew: its secrets changed since the start; what it wrote to its root, a tmpfs, goes\n"}, "boxrun", "up", "--replace", "tmpfs")
	h.gives("hunter-three\n", "boxrun", "exec", "tmpfs", "--", "cat", "/etc/secrets/password")

	h.sh("pid=$(jq .state.init.pid /run/boxrun/boxes/kept.json); kill -9 $pid; while kill -0 $pid 2> /dev/null; do sleep 0.01; done")
	h.must("boxrun", "down", "tmpfs", "frozen", "kept", "other")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`, `^/root/password`, `^/var/kept`, `^/tmp/plan`)...)
	h.must("boxrun", "up", "tmpfs")
	h.sh("rm /run/boxrun/boxes/tmpfs.json; boxrun host reset --force; ! ls /run/boxrun/boxes/tmpfs/secrets")
}

// A file that others can read, or that is none, is refused with what to do about it, before anything is changed.
func (h host) refusesSecrets() {
	h.profile("tmpfs", "image = \"/srv/web\"\nsecrets.password = \"/root/password\"\n")
	for script, want := range map[string]struct {
		code  int
		words []string
	}{
		"chmod 640 /root/password":                              {1, []string{"mode 0640"}},
		"chmod 600 /root/password; chown nobody /root/password": {1, []string{"does not belong to root"}},
		"rm -f /root/password":                                  {1, []string{"no such file"}},
		"rm -f /root/password; mkfifo -m 600 /root/password":    {1, []string{"not a regular file"}},
		"rm -f /root/password; ln -s /root/site.key /root/x; ln -s x /root/password; chmod 604 /root/site.key": {1, []string{"mode 0604"}},
	} {
		h.sh("umask 077; rm -f /root/password /root/x; echo x > /root/password; chmod 600 /root/site.key; " + script)
		before := h.dump()
		h.refuses(want.code, append(want.words, "/etc/boxrun/profiles/tmpfs.toml: secrets.password: "), "boxrun", "up", "tmpfs")
		h.same(before, `^/run/boxrun`)
	}
	h.sh("rm -f /root/password; echo x > /root/password; chmod 644 /root/password")
	h.fails(1, []string{"mode 0644", "boxrun: hint: chmod 600 /root/password"}, "boxrun", "up", "tmpfs")
	h.sh("rm -f /root/password /root/x; chmod 600 /root/site.key")
}

// hooked gives a profile whose hooks write down that they ran, with one more between.
func hooked(second string) string {
	return `image = "/srv/web"
[hooks]
post_up = [
  ["sh", "-c", "echo first >> /var/ran; echo told; echo complained >&2; systemctl is-system-running"],
  [` + second + `],
  ["sh", "-c", "cat >> /var/ran; echo third of %i $(id -un) >> /var/ran"],
]
`
}

func (h host) runsHooks() {
	h.profile("hooked", hooked(`"sh", "-c", "echo about to fail; exit 3"`))
	r := h.run("boxrun", "up", "hooked@a")
	if want := []string{"post_up[0] ", "    told\n", "    complained\n", "    running\n", "post_up[1] ", "    about to fail\n",
		`boxrun: error: hooked-a: post_up[1] "sh -c echo about to fail; exit 3" exited with 3`, "boxrun: hint: the box stays up", "started at "}; r.Code != 1 ||
		r.Stdout != "" || !containsAll(r.Stderr, want) || strings.Contains(r.Stderr, "post_up[2]") {
		h.t.Errorf("up: %v\nwant exit code 1, and on stderr: %q", r, want)
	}
	h.sh("boxrun ps --json | jq -e '.[0].state == \"running\"'")
	h.fails(1, []string{"post_up[0]", "post_up[1]", "exited with 3"}, "boxrun", "up", "hooked@a")
	h.profile("hooked", hooked(`"true"`))
	h.must("boxrun", "up", "hooked@a") // that of the profile as it is now
	if got := h.run("boxrun", "up", "hooked@a").Stderr; strings.Contains(got, "post_up") {
		h.t.Errorf("up of a box that is up says\n%s\nwant no hooks", got)
	}
	h.gives("first\nfirst\nfirst\nthird of a root\n", "boxrun", "exec", "hooked-a", "cat", "/var/ran")
	h.must("boxrun", "restart", "hooked@a")
	h.gives("first\nthird of a root\n", "boxrun", "exec", "hooked-a", "cat", "/var/ran")
	h.profile("hooked", hooked(`"nosuch"`))
	h.fails(1, []string{`post_up[1] "nosuch": nosuch: no such command`}, "boxrun", "up", "--replace", "hooked@a")
}

// Hooks that did not all run, as nobody waited or boxrun was killed, run with the next up; a start that is interrupted in one is
// undone.
func (h host) runsHooksAgain() {
	h.profile("hooked", hooked(`"sh", "-c", "test -e /run/go || sleep 60"`))
	if r := h.run("boxrun", "up", "--no-wait", "hooked@b"); r.Code != 0 || !strings.Contains(r.Stderr, "post_up has not run") {
		h.t.Errorf("up --no-wait: %v, want it said that the hooks did not run", r)
	}
	h.sh(`boxrun up hooked@b > /dev/null 2>&1 & pid=$!
for i in $(seq 100); do boxrun exec hooked-b -- pgrep -x sleep > /dev/null && break; sleep 0.1; done; kill -9 $pid; wait $pid || true`)
	h.must("boxrun", "exec", "hooked-b", "--", "sh", "-c", "pkill -x sleep; touch /run/go")
	h.must("boxrun", "up", "hooked@b")
	h.gives("first\nfirst\nthird of b root\n", "boxrun", "exec", "hooked-b", "cat", "/var/ran")
	h.must("boxrun", "down", "hooked@b")

	before := h.dump()
	r := h.run("bash", "-c", `boxrun up hooked@c & pid=$!
for i in $(seq 100); do boxrun exec hooked-c -- pgrep -x sleep > /dev/null 2>&1 && break; sleep 0.1; done; kill -TERM $pid; wait $pid`)
	if r.Code != 130 || !strings.Contains(r.Stderr, "a start it had begun is undone") {
		h.t.Errorf("an interrupted up: %v", r)
	}
	h.same(before, stays()...)
	r = h.run("bash", "-c", `boxrun up hooked@c & pid=$!
for i in $(seq 100); do boxrun exec hooked-c -- pgrep -x sleep > /dev/null 2>&1 && break; sleep 0.1; done
kill -9 $(jq .state.init.pid /run/boxrun/boxes/hooked-c.json); wait $pid`)
	if r.Code != 4 || !strings.Contains(r.Stderr, "the box's init ended while post_up[1] ") {
		h.t.Errorf("an up whose box died: %v", r)
	}
	h.same(before, stays()...)
}

func (h host) runsHooksAtBoot() {
	h.profile("boot", strings.ReplaceAll(hooked(`"true"`), "%i", "them"))
	h.must("boxrun", "enable", "boot")
	h.must("systemctl", "start", "boxrun@boot")
	h.gives("first\nthird of them root\n", "boxrun", "exec", "boot", "cat", "/var/ran")
	h.must("boxrun", "down", "boot")
	h.profile("boot", strings.ReplaceAll(hooked(`"false"`), "%i", "them"))
	h.must("boxrun", "enable", "boot")
	h.must("systemctl", "start", "boxrun@boot")           // as the box is up, to be looked at
	if said := eventually(10*time.Second, func() string { // systemd counts the service as started before boxrun says the rest
		said := h.must("journalctl", "-q", "-o", "cat", "-u", "boxrun@boot")
		if strings.Contains(said, `error: boot: post_up[1] "false" exited with 1`) {
			return ""
		}
		return said
	}); said != "" {
		h.t.Errorf("the journal has\n%s\nwant why the hooks failed", said)
	}
	h.gives("active\n", "systemctl", "is-active", "boxrun@boot")
	h.sh(`boxrun status --json boot | jq -e '.hooks_due and .state == "running"'; boxrun status boot | grep post_up`)
	h.must("boxrun", "disable", "boot")
}

// speaks has a box say something, by the same hand as its services.
func (h host) speaks(box, words string) {
	h.t.Helper()
	h.must("boxrun", "exec", box, "--", "logger", "-t", "mark", words)
}

// marked gives the lines of "logger -t mark", without date and number.
func marked(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		before, words, found := strings.Cut(line, "]: ")
		if box, _, _ := strings.Cut(before, "| "); found && strings.Contains(before, " mark[") {
			kept.WriteString(strings.TrimSpace(box) + ": " + words)
		}
	}
	return kept.String()
}

func (h host) mergesLogs() {
	h.profile("db", "image = \"/srv/web\"\n") // for the parts to come as well
	h.must("boxrun", "up", "db", "web", "hello")
	for i := range 3 {
		h.speaks("web", fmt.Sprint("web ", i))
		h.speaks("db", fmt.Sprint("db ", i))
	}
	out := h.must("boxrun", "logs", "web", "db", "hello")
	if got, want := marked(out), "web: web 0\ndb: db 0\nweb: web 1\ndb: db 1\nweb: web 2\ndb: db 2\n"; got != want {
		h.t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !containsAll(out, []string{"web   | ", "db    | ", "hello | hello: serving on "}) || strings.Contains(out, "\x1b") {
		h.t.Errorf("got\n%s\nwant every line with its box's name, without colours", out)
	}
	if got, want := marked(h.must("boxrun", "logs", "-n", "1", "db", "web")), "web: web 2\ndb: db 2\n"; got != want {
		h.t.Errorf("-n 1: got\n%s\nwant\n%s", got, want)
	}
	if got := h.must("boxrun", "logs", "-n", "0", "db") + h.must("boxrun", "logs", "-n", "0", "db", "web"); got != "" {
		h.t.Errorf("-n 0: got\n%s\nwant nothing", got)
	}
	one := h.must("boxrun", "logs", "-n", "1", "db")
	if !strings.HasSuffix(one, "]: db 2\n") || strings.Contains(one, "|") {
		h.t.Errorf("of one box: got %s, want journalctl's own line", one)
	}
	if got := h.must("boxrun", "logs", "-u", "nginx", "web", "db"); !strings.Contains(got, "web | ") || strings.Contains(got, "mark[") {
		h.t.Errorf("-u: got\n%s", got)
	}
	h.fails(3, []string{`there is neither a box nor a profile named "nosuch"`}, "boxrun", "logs", "web", "nosuch", "db")
	h.fails(1, []string{`box "hello" keeps no journal`}, "boxrun", "logs", "-u", "nginx", "web", "hello")
	h.fails(1, []string{"web | Failed to parse timestamp", "db  | Failed to parse timestamp"}, "boxrun", "logs", "--since", "foo", "web", "db")
	for _, typed := range []string{"logs web -u ngi", "logs -u ngi"} {
		h.gives("nginx.service\n", "sh", "-c", "boxrun __complete "+typed+" 2> /dev/null | cut -f1 | grep -v :")
	}
	h.leavesOutOlderLines()
	h.offersWhatIsTaken()
}

// offersWhatIsTaken asks for completions as shells do: each is something that the verb takes.
func (h host) offersWhatIsTaken() {
	h.t.Helper()
	h.must("boxrun", "enable", "hello")
	defer h.must("boxrun", "disable", "hello")
	for typed, want := range map[string]string{
		"enable hel":             "",
		"disable ":               "hello",
		"build ":                 "coldfront",
		"exec -u www":            "www-data",
		"shell web -u www":       "www-data",
		"cp web:/etc/ngin":       "web:/etc/nginx/",
		"cp /srv web:etc/hostna": "web:etc/hostname",
		"cp web:/etc web:":       "",
		"logs --since ":          "",
		"logs -p cr":             "crit",
	} {
		words := strings.Split(typed, " ")
		var got []string
		for line := range strings.Lines(h.must(append([]string{"boxrun", "__complete"}, words...)...)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if strings.HasPrefix(word, words[len(words)-1]) && !strings.HasPrefix(word, ":") {
				got = append(got, word)
			}
		}
		if strings.Join(got, " ") != want {
			h.t.Errorf("boxrun %s offers %q, want %q", typed, got, want)
		}
	}
	if got := h.must("boxrun", "__complete", "logs", "--"); strings.Contains(got, "`") {
		h.t.Errorf("flags of logs are offered with quotes:\n%s", got)
	}
}

// leavesOutOlderLines asks for what a box has said since a time.
func (h host) leavesOutOlderLines() {
	h.t.Helper()
	h.sh("sleep 1")
	since := strings.TrimSpace(h.must("date", "+@%s"))
	h.speaks("web", "web later")
	h.speaks("db", "db later")
	if got, want := marked(h.must("boxrun", "logs", "--since", since, "web", "db")), "web: web later\ndb: db later\n"; got != want {
		h.t.Errorf("--since %s: got\n%s\nwant\n%s", since, got, want)
	}
}

// One that ends does not end the others, and that somebody follows its log does not hold up a box that is to stop.
func (h host) followsLogs() {
	h.must("boxrun", "up", "db", "web")
	h.sh("boxrun logs -f -n 1 web db > /tmp/followed 2>&1 & echo $! > /tmp/following")
	h.awaits("web | ")
	h.speaks("db", "db before")
	h.speaks("web", "web before")
	h.awaits("web before")
	began := time.Now()
	h.must("boxrun", "down", "web")
	if took := time.Since(began); took > 8*time.Second {
		h.t.Errorf("the down took %v, want it not to wait for who looks on", took)
	}
	h.awaits("boxrun: web: its log has ended, as the box has")
	h.speaks("db", "db after")
	h.awaits("db after")
	h.sh("kill -TERM $(cat /tmp/following); while kill -0 $(cat /tmp/following) 2> /dev/null; do sleep 0.05; done")
	text := h.must("cat", "/tmp/followed")
	if got, want := marked(text), "db: db before\nweb: web before\ndb: db after\n"; got != want {
		h.t.Errorf("got\n%s\nwant in this order\n%s", text, want)
	}
	if got := h.run("boxrun", "exec", "db", "--", "pgrep", "journalctl"); got.Code != 1 {
		h.t.Errorf("a journalctl is left in the box: %v", got)
	}
	h.tellsOfACrash("db")
}

// tellsOfACrash kills the init of a box whose journal is in memory: what it said last is shown, by the box that starts
// anew, too.
func (h host) tellsOfACrash(box string) {
	h.t.Helper()
	h.must("boxrun", "exec", box, "--", "systemd-cat", "-p", "err", "echo", "last words of "+box)
	h.must("boxrun", "exec", box, "--", "journalctl", "--sync")
	h.sh("pid=$(jq .state.init.pid /run/boxrun/boxes/" + box + ".json); kill -9 $pid; while kill -0 $pid 2> /dev/null; do sleep 0.01; done")
	h.tells([]string{"boxrun: " + box + ": has crashed: this is the journal that it left, ", "last words of " + box,
		`; "journalctl -u boxrun-` + box + `.service" has`}, "boxrun", "logs", box)
	h.must("boxrun", "logs", "-u", "nginx", box)
	h.must("boxrun", "up", box)
	h.gives("last words of "+box+"\n", "boxrun", "logs", "-p", "err", "-g", "last words", "-o", "cat", "-n", "1", box)
}

// keepsJournals ends boxes of every kind of root hard: what they said last is shown all the same, and when they are
// down, too. The host's journalctl reads what the host keeps.
func (h host) keepsJournals() {
	kept := "[systemd]\njournal = \"host\"\n"
	h.profile("kept-tmpfs", "image = \"/srv/web\"\n"+kept)
	h.profile("kept-read", "image = \"/srv/web\"\n[storage]\nroot = \"read-only\"\n"+kept)
	h.profile("kept-overlay", "image = \"/srv/web\"\n[storage]\nroot = \"overlay\"\n")
	h.profile("memory-tmpfs", "image = \"/srv/web\"\n")
	h.profile("memory-read", "image = \"/srv/web\"\n[storage]\nroot = \"read-only\"\n")
	h.profile("memory-strict", "image = \"/srv/web\"\n[security]\nlevel = \"strict\"\n")
	h.profile("kept-bind", "image = \"/srv/web\"\n[storage]\nbinds = [\"/var/lib/boxrun/kept-bind/log:/var/log\"]\n")
	if r := h.run("test", "-d", "/var/log/journal"); r.Code != 0 {
		h.refuses(1, []string{"systemd.journal", "mkdir /var/log/journal"}, "boxrun", "up", "kept-tmpfs")
	}
	h.sh("mkdir -p /var/log/journal")
	names := []string{"kept-tmpfs", "kept-read", "kept-overlay", "kept-bind"}
	memory := []string{"memory-tmpfs", "memory-read", "memory-strict"}
	h.must(slices.Concat([]string{"boxrun", "up"}, names, memory)...)
	for _, box := range names[2:] {
		h.must("boxrun", "exec", box, "--", "sh", "-c", "mkdir -p /var/log/journal; journalctl --flush")
	}
	for _, box := range slices.Concat(names, memory) {
		h.must("boxrun", "exec", box, "--", "systemd-cat", "-p", "err", "echo", "last words of "+box)
		h.must("boxrun", "exec", box, "--", "journalctl", "--sync")
		h.speaks(box, "after the sync")
		h.sh("sleep 0.3; pid=$(jq .state.init.pid /run/boxrun/boxes/" + box + ".json); kill -9 $pid; while kill -0 $pid 2> /dev/null; do sleep 0.01; done")
	}
	tells := func(box, state string) {
		h.tells([]string{"boxrun: " + box + ": " + state, "last words of " + box, "after the sync"}, "boxrun", "logs", box)
		h.gives("last words of "+box+"\n", "boxrun", "logs", "-p", "err", "-g", "last words", "-o", "cat", "-n", "1", box)
		h.gives("", "boxrun", "logs", "--until", "-1h", "-o", "cat", box)
	}
	for _, box := range slices.Concat(names, memory) {
		tells(box, "has crashed: this is the journal that it left")
	}
	h.must("boxrun", "down", "--all")
	h.gives("", "sh", "-c", "findmnt -n -o TARGET | grep boxrun || true")
	for _, box := range names {
		tells(box, "is not up: this is the journal that it left")
	}
	if got := marked(h.must("boxrun", "logs", names[0], names[2])); !containsAll(got, []string{names[0], names[2]}) {
		h.t.Errorf("logs of two boxes that are down: %s", got)
	}
	h.tells([]string{"last words of kept-tmpfs", "last words of kept-read"}, "journalctl", "-m", "-p", "err", "-o", "cat")
	h.removesWhatIsKept()
	h.fails(3, []string{`box "db" is not up, and its journal went with it`, `journal = "host"`}, "boxrun", "logs", "db")
}

// removesWhatIsKept lists, exports and removes what boxes left, and nothing of one that is up.
func (h host) removesWhatIsKept() {
	h.gives("kept-bind/log\nkept-overlay/overlay\nkept-read/journal\nkept-tmpfs/journal\n", "sh", "-c", "boxrun kept list -q | grep ^kept-")
	h.sh(`boxrun kept list --json kept-overlay | jq -e '.[0] | .name == "kept-overlay/overlay" and .bytes > 100000 and .used_by == ""'`)
	h.sh("mkdir /tmp/out; " +
		"boxrun kept export kept-overlay | tar --xattrs --xattrs-include='*' -xf - -C /tmp/out; diff -r --no-dereference /tmp/out/overlay/upper /var/lib/boxrun/kept-overlay/overlay/upper; rm -r /tmp/out")
	h.must("boxrun", "up", "kept-overlay")
	h.refuses(1, []string{`kept-overlay/overlay is in use by box "kept-overlay"`}, "boxrun", "kept", "rm", "-y", "kept-overlay")
	h.must("boxrun", "down", "kept-overlay")
	h.refuses(2, []string{"there is no terminal to ask whether to remove kept-overlay/overlay: -y says so"}, "boxrun", "kept", "rm", "kept-overlay")
	h.must("boxrun", "kept", "rm", "-y", "kept-overlay", "kept-tmpfs")
	h.gives("kept-bind/log\nkept-read/journal\n", "sh", "-c", "boxrun kept list -q | grep ^kept-")
	term := h.terminal("boxrun", "kept", "rm", "kept-bind")
	dialogue(h.t, term, [][2]string{{"y\n", "kept-bind/log: is removed"}})
	if r, err := term.Wait(10 * time.Second); err != nil || r.Code != 0 {
		h.t.Errorf("kept rm on a terminal: %v %v", r, err)
	}
	h.gives("kept-read/journal\n", "sh", "-c", "boxrun kept list -q | grep ^kept-")
}

// awaits waits until the log that is followed has text.
func (h host) awaits(text string) {
	h.t.Helper()
	const path = "/tmp/followed"
	if missing := eventually(20*time.Second, func() string {
		if got := h.run("cat", path).Stdout; !strings.Contains(got, text) {
			return "so far: " + got
		}
		return ""
	}); missing != "" {
		h.t.Fatalf("%s: got\n%s\nwant in it %q", path, missing, text)
	}
}

// A box is not given the terminal of who reads its log, nor a way to command it.
func (h host) keepsTheTerminal() {
	h.must("boxrun", "up", "db", "hello")
	h.must("boxrun", "exec", "db", "--", "sh", "-c", `printf '#!/bin/sh\nreadlink /proc/self/fd/1; printf "\\033[2J\\033]0;mine\\007\\033[31mred\\n"\n' > /usr/local/bin/journalctl
chmod +x /usr/local/bin/journalctl`)
	term := h.terminal("boxrun", "logs", "db")
	r, err := term.Wait(10 * time.Second)
	if err != nil {
		h.t.Fatal(err)
	}
	lines := strings.Split(strings.ReplaceAll(r.Stdout, "\r", ""), "\n")
	if !strings.HasPrefix(lines[0], "pipe:") || !slices.Contains(lines, "?[2J?]0;mine?\x1b[31mred\x1b[0m") {
		h.t.Errorf("got %q, want a pipe, and no more than colours on the terminal", lines)
	}
	r, err = h.terminal("boxrun", "exec", "-T", "db", "--", "readlink", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2").Wait(10 * time.Second)
	if err != nil || strings.Count(r.Stdout, "pipe:") != 3 {
		h.t.Errorf("a command without a terminal has %v, %v, want pipes", r, err)
	}
	h.sh("curl -s \"http://$(boxrun ps --json | jq -r '.[] | select(.name == \"hello\").address')/%1b%5b2Jmine\" > /dev/null")
	if got := h.must("boxrun", "logs", "hello"); strings.Contains(got, "\x1b") || !strings.Contains(got, "2Jmine") {
		h.t.Errorf("got %q, want what was asked for without its escape", got)
	}
	term = h.terminal("boxrun", "logs", "-n", "1", "hello", "db")
	r, err = term.Wait(10 * time.Second)
	if err != nil || !strings.Contains(r.Stdout, "\x1b[36mhello | \x1b[0m") || !strings.Contains(r.Stdout, "\x1b[33mdb    | \x1b[0m") {
		h.t.Errorf("got %v, %v, want the names in colours", r, err)
	}
	r, err = h.terminal("sh", "-c", "export NO_COLOR=1; boxrun logs db; boxrun logs -n 1 hello db").Wait(10 * time.Second)
	if err != nil || strings.Contains(r.Stdout, "\x1b") || !containsAll(r.Stdout, []string{"]0;mine?red", "hello | ", "db    | "}) {
		h.t.Errorf("got %q, %v, want no colours where NO_COLOR is set", r.Stdout, err)
	}
}

// firstSteps finds the commands in a hint.
var firstSteps = regexp.MustCompile(`"(boxrun [^"]+)"`)

// A person who has an image and no profile comes to a box that is well by the commands of a single hint, whatever tool the
// fingers know.
func TestFirstBox(t *testing.T) {
	h := newHost(t)
	for _, typed := range []string{
		"boxrun up /srv/web", "boxrun run -d --name first -p 8088:80 /srv/web", "boxrun create first /srv/web", "boxrun import-fs /srv/web first",
	} {
		r := h.run(strings.Fields(typed)...)
		commands := firstSteps.FindAllStringSubmatch(r.Stderr[strings.Index(r.Stderr, "hint: ")+1:], -1)
		if r.Code == 0 || len(commands) != 2 {
			t.Errorf("%s: %v, want two commands in its hint", typed, r)
			continue
		}
		h.sh("mkdir -p /root/mine; cd /root/mine; " + commands[0][1] + "; " + commands[1][1])
		h.sh("boxrun ps | grep -E '^(web|first) +healthy '")
		if strings.Contains(typed, "8088") {
			h.sh("curl -fsS http://127.0.0.1:8088/ > /dev/null")
			h.sh("boxrun exec first -- systemctl stop nginx")
			h.sh("boxrun ps | grep -E '^first +(degraded|unhealthy) '") // the latter after a look
		}
		h.sh("boxrun down --all; rm -r /root/mine")
	}
}

// Verbs that stop a box say before what goes with it, and afterwards that the next boot starts it again; not where nothing
// goes, nor to the journal at a stop by systemd.
func TestStopsSayWhatGoes(t *testing.T) {
	h := newHost(t)
	h.profile("memory", "image = \"/srv/web\"\n")
	h.profile("disk", "image = \"/srv/web\"\n[storage]\nroot = \"overlay\"\n")
	h.must("boxrun", "up", "memory", "disk", "hello")
	const goes, again = "what it wrote to its root goes: storage.root is \"tmpfs\"\n", "the next boot starts it again: \"boxrun disable disk\" ends that\n"
	said := h.run("boxrun", "restart", "memory").Stderr
	if at := strings.Index(said, "boxrun: memory: "+goes); at < 0 || at > strings.Index(said, "memory: started") {
		t.Errorf("restart says\n%s\nwant before the start that %q", said, goes)
	}
	h.must("boxrun", "enable", "disk", "memory")
	for _, stop := range []struct {
		verb string
		want []string
	}{
		{"down disk hello", []string{again}},
		{"kept rm -y disk/overlay", []string{"disk/overlay: the next boot starts disk without it: \"boxrun disable disk\" ends that\n"}},
		{"disable disk", nil},
		{"up disk", nil},
		{"down disk", nil},
		{"disable --now memory", []string{goes}},
	} {
		r := h.run(strings.Fields("boxrun " + stop.verb)...)
		told := strings.Contains(r.Stderr, "goes: ") || strings.Contains(r.Stderr, "next boot")
		if r.Code != 0 || told != (stop.want != nil) || !containsAll(r.Stderr, stop.want) {
			t.Errorf("%s: %v, want %q of what goes and what comes again", stop.verb, r, stop.want)
		}
	}
	h.must("boxrun", "enable", "--now", "memory")
	h.must("systemctl", "stop", "boxrun@memory.service")
	if got := h.must("journalctl", "-q", "-o", "cat", "-u", "boxrun@memory.service"); !strings.Contains(got, "memory: is down") ||
		strings.Contains(got, "goes: ") || strings.Contains(got, "next boot") {
		t.Errorf("the journal of a stop by systemd has\n%s", got)
	}
	h.must("boxrun", "disable", "memory")
}
