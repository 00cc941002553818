package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// harm is the bash for text that a terminal takes for commands: clear the screen, name the window, ring, write over the
// line, write backwards.
const harm = `$'\e[2J\e]0;owned\a\rforged\x7f\xc2\x9b2J\u202egnp'`

// harmful are behaviours of root in a box with such text, at once: in names and descriptions of units, the journal, the
// console, host names, titles of processes, mounts, cgroups, file names.
var harmful = []string{
	"hostname", "domainname", "title", "unit-named", "journal-nasty", "console-nasty", "mounts-nasty",
	"cgroup-name", "tree-nasty",
}

// No verb prints a byte of anybody else's that a terminal takes for a command.
func TestPrintsNoControls(t *testing.T) {
	h := newHostileHost(t)
	for _, source := range []struct {
		name string
		test func(host)
	}{
		{"a box", host.hearsABox},
		{"what a box answers", host.hearsAnswers},
		{"names on the host", host.hearsTheHost},
		{"a build", host.hearsABuild},
	} {
		t.Run(source.name, func(t *testing.T) { source.test(h.in(t)) })
	}
}

// hearsABox has a box say harm by all its ways at once, and every verb meet the box, and what is left of the box.
func (h host) hearsABox() {
	h.profile("evil", cruel)
	h.must("boxrun", "up", "evil")
	for _, name := range harmful {
		h.plays(name)
	}
	h.must("boxrun", "exec", "evil", "--", "bash", "-c", `h=`+harm+`
		printf 'PRETTY_NAME="%s"\nNAME="%s"\n' "$h" "$h" > /etc/os-release
		printf '%s:x:0:0:%s:/root:/bin/sh\n' "$h" "$h" >> /etc/passwd; printf '\n127.0.0.1 %s' "$h" >> /etc/hostname
		systemd-run -q --unit=told --description="$h" sh -c "echo '$h'; exit 3" || true; mkdir "/var/$h"`)
	h.meetsAll()
	for _, m := range acts {
		h.meets(m)
	}
	h.meets(meeting{20, "down evil"})
	h.sh(`mkdir -p /var/lib/boxrun/` + harm + `/overlay/upper; : > /var/lib/boxrun/evil/` + harm)
	for _, m := range remains {
		h.meets(m)
	}
	h.sh(`rm -r /var/lib/boxrun/*`)
	h.nothingLeft()
}

// hearsAnswers has a box answer the probes of [ready] and of [health] with harm, and a unit of [ready] fail with harm.
func (h host) hearsAnswers() {
	h.profile("evil", `image = "/srv/web"
[ready]
http    = ["http://:81/"]
units   = ["told.service"]
timeout = "2s"
[health]
interval = "1h"
[storage]
binds = ["/srv/told:/etc/systemd/system/told.service:ro", "/srv/answers:/etc/systemd/system/answers.service:ro",
	"/srv/wants:/etc/systemd/system/multi-user.target.d/wants.conf:ro", "/srv/tell:/usr/local/bin/tell:ro", "/srv/answer:/usr/local/bin/answer:ro"]
`)
	h.sh(`h=` + harm + `
		printf '[Unit]\nWants=told.service answers.service\n' > /srv/wants
		printf '[Unit]\nDescription=%s\n[Service]\nExecStart=sh /usr/local/bin/tell\n' "$h" > /srv/told
		printf '[Service]\nExecStart=perl /usr/local/bin/answer\n' > /srv/answers
		printf '%s' "printf '%s\n' '$h' '$h' >&2; exit 3" > /srv/tell
		printf '%s' "use IO::Socket::INET; my \$s = IO::Socket::INET->new(LocalPort => 81, Listen => 9, ReuseAddr => 1) or die;
			while (my \$c = \$s->accept) { print \$c qq(HTTP/1.1 500 $h\r\nLocation: http://$h/\r\nX: $h\r\nContent-Length: 40\r\n\r\n$h); close \$c }" > /srv/answer`)
	for _, m := range []meeting{
		{20, "up evil"}, {20, "status evil"}, {20, "status --check evil"}, {20, "up evil"}, {20, "health evil"}, {40, "doctor evil"}, {20, "down evil"},
	} {
		h.meets(m)
	}
}

// hearsTheHost has files, profiles and processes of the host be named with harm.
func (h host) hearsTheHost() {
	h.sh(`cd /etc/boxrun/profiles; h=` + harm + `
		printf 'image = "/srv/%s"\n' "$h" > bad.toml; printf '%s = "%s"\n[%s]\n' "$h" "$h" "$h" > worse.toml
		printf 'image = "/srv/\\u202e\\u001b[2J"\n[systemd]\nenvironment = { A = "\\u202eb", B = "\\u001b[2J" }\n[ready]\nhint = "\\u009b2J"\n' > escaped.toml
		printf 'image = "builtin:hello"\n[network]\nports = ["8085:80"]\nexternal = "\\u202e"\n' > outward.toml
		printf 'image = "builtin:hello"\n[systemd]\nenvironment = { A = "\\u202eb" }\n' > turned.toml
		cp web.toml "$h.toml"; mkdir -p "/srv/$h" /srv/in.d; : > "/srv/in.d/$h"; mkfifo "/srv/in.d/$h.fifo"
		(exec -a "$h" perl -e 'use IO::Socket::INET; $0 = $ARGV[0]; my $s = IO::Socket::INET->new(LocalPort => 8086, Listen => 1) or die; sleep 60' "$h") > /dev/null 2>&1 & echo $! > /srv/taker
		printf 'image = "builtin:hello"\n[network]\nports = ["8086:80"]\n' > taken.toml; for i in $(seq 50); do ss -tln | grep -q :8086 && break; sleep 0.1; done`)
	for _, verb := range []string{
		"profile list", "profile check bad", "profile check worse", "profile check escaped", "profile show escaped", "up bad", "up worse",
		"up escaped", "up --dry-run escaped", "up outward", "profile show turned", "up --dry-run turned", "up taken", "ps -a", "ps -a --json", "profile list --json",
		"up __HARM__", "exec __HARM__ -- true", "status __HARM__", "__HARM__", "up --__HARM__", "kept rm __HARM__", "enable __HARM__",
		"logs --since __HARM__ web", "profile check __HARM__", "doctor", "host show", "__complete up ", "cp /srv/__HARM__/x web:/x", "cp web:/__HARM__ /srv/out/",
	} {
		h.meets(meeting{30, strings.ReplaceAll(verb, "__HARM__", "\x1b[2J\u202e\u009b2J\x07")})
	}
	h.sh(`cd /etc/boxrun/profiles; kill $(cat /srv/taker); rm -r /srv/taker turned.toml bad.toml worse.toml escaped.toml outward.toml taken.toml ` + harm + `.toml /srv/` + harm + ` /srv/in.d`)
}

// coloured matches what a build on a terminal may say beside text: colours, and boxrun's own way to take a live line away.
var coloured = regexp.MustCompile("\x1b\\[[0-9;]*m|\r?\x1b\\[K|\x1b\\[A|\r\n")

// hearsABuild has a definition say harm in its scripts, labels and file names, to a file and to a terminal.
func (h host) hearsABuild() {
	h.sh(smallRoot)
	h.letBuild()
	h.sh(`h=` + harm + `
		printf 'Bootstrap: localimage\nFrom: /srv/small\n\n%%labels\n    A %s\n\n%%post\n    printf "\\033[32mgreen\\033[0m\\n10%%%%\\r100%%%%\\n"\n    echo "%s"\n    echo "%s" >&2\n    [ ! -e /etc/fails ]\n' "$h" "$h" "$h" > /etc/boxrun/profiles/site.def`)
	h.profile("site", "image = \"/srv/site.sif\"\n[build]\ndefinition = \"site.def\"\n")
	r := h.run("boxrun", "build", "site")
	said := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(r.Stdout+r.Stderr, "")
	if bad := controls([]byte(said)); r.Code != 0 || bad != "" {
		h.t.Errorf("a build prints %s: %v", bad, r)
	}
	if !containsAll(r.Stderr, []string{"\x1b[32mgreen\x1b[0m", "\n100%\n", "forged"}) || strings.Contains(r.Stderr, "10%\n") {
		h.t.Errorf("a build says %q, want colours, and of a line written over its end", r.Stderr)
	}
	r, err := h.terminal("boxrun", "build", "--force", "site").Wait(time.Minute)
	if bad := controls([]byte(coloured.ReplaceAllString(r.Stdout, ""))); err != nil || r.Code != 0 || bad != "" {
		h.t.Errorf("a build on a terminal prints %s: %v: %v", bad, err, r)
	}
	h.sh(`touch /srv/small/etc/fails`)
	h.fails(1, []string{"was not built", "forged"}, "boxrun", "build", "--force", "site")
	h.sh(`rm -f /srv/site.sif* /etc/boxrun/profiles/site.*`)
}
