package e2e

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// smallRoot makes a root in /srv/small that boots in no time: a shell as its init, and a few programs.
const smallRoot = `
root=/srv/small
mkdir -p $root/bin $root/sbin $root/etc $root/dev $root/proc $root/sys $root/tmp $root/var/tmp $root/root $root/run
for program in dash sleep cat touch; do cp /usr/bin/$program $root/bin/; done
ln -s dash $root/bin/sh
for library in $(ldd $root/bin/* | grep -o '/[^ ]*\.so[^ ]*' | sort -u); do mkdir -p $root$(dirname $library); cp -L $library $root$library; done
cat > $root/sbin/init <<'END'
#!/bin/sh
trap 'exit 0' 37 # SIGRTMIN+3
while :; do sleep 1 & wait $!; done
END
chmod 755 $root/sbin/init`

// definition is beside the profile, and so is what it takes from the host.
const definition = `Bootstrap: localimage
From: /srv/small

%files
    version /etc/version

%post
    touch /etc/built
`

// builder is a host with a profile whose image is to be built.
type builder struct {
	host
	image string
}

// builds writes a profile whose image is to be built, and its definition.
func (h host) builds(image string) builder {
	h.t.Helper()
	h.profile("site", "image = \""+image+"\"\n[build]\ndefinition = \"site.def\"\n")
	if err := h.Write(h.t.Context(), "/etc/boxrun/profiles/site.def", 0o644, strings.NewReader(definition)); err != nil {
		h.t.Fatal(err)
	}
	return builder{host: h, image: image}
}

// version changes what the definition takes.
func (b builder) version(text string) {
	b.t.Helper()
	b.sh("echo " + text + " > /etc/boxrun/profiles/version")
}

// runs wants the box to be of that version.
func (b builder) runs(version string) {
	b.t.Helper()
	if got := b.must("boxrun", "exec", "site", "--", "/bin/cat", "/etc/version", "/etc/built"); got != version+"\n" {
		b.t.Errorf("the box is of version %q, want %q", got, version)
	}
}

// alone wants the image, what it was built from, and no other files in its directory.
func (b builder) alone() {
	b.t.Helper()
	got := strings.Fields(b.sh("ls -A " + path.Dir(b.image)))
	name := path.Base(b.image)
	if want := []string{name, name + ".boxrun.json"}; !slices.Equal(got, want) {
		b.t.Errorf("beside the image there are %q, want %q", got, want)
	}
}

func (b builder) changed() []string {
	b.t.Helper()
	var list []struct{ Changed []string }
	if out := b.must("boxrun", "ps", "--json"); json.Unmarshal([]byte(out), &list) != nil || len(list) != 1 {
		b.t.Fatalf("ps --json says %s, want one box", out)
	}
	return list[0].Changed
}

// letBuild has "apptainer build" work on this machine.
func (h host) letBuild() {
	h.t.Helper()
	if err := h.LetBuild(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func TestBuild(t *testing.T) {
	h := newHost(t)
	h.sh(smallRoot)
	h.letBuild()
	before := h.dump()
	for what, image := range map[string]string{"a SIF": "/srv/images/site.sif", "a sandbox": "/srv/boxes/site"} {
		t.Run(what, func(t *testing.T) {
			b := h.in(t).builds(image)
			defer b.run("boxrun", "down", "site")
			b.lives()
			b.isForced()
			b.isOvertaken()
			b.isKilled()
			b.must("boxrun", "down", "site")
			b.same(before, append(stays(), `^/etc/boxrun/profiles`, `^/srv/(images|boxes)`, `^/root/\.apptainer/cache`)...)
		})
	}
	t.Run("a replaced sandbox after a power cut", func(t *testing.T) { h.in(t).builds("/srv/boxes/site").isKept() })
}

// lives goes the whole way of an image: it is missing, built, another by its definition, and built anew for the box.
func (b builder) lives() {
	b.t.Helper()
	b.version("one")
	b.fails(1, []string{b.image, `boxrun: hint: run "boxrun build site"`}, "boxrun", "up", "site")
	b.must("boxrun", "build", "site")
	b.must("boxrun", "up", "site")
	b.runs("one")
	if got := b.must("boxrun", "diff", "site"); got != "" || len(b.changed()) != 0 {
		b.t.Errorf("diff of a new box: got %q, changed %q, want nothing", got, b.changed())
	}
	b.tells([]string{"nothing to change"}, "boxrun", "up", "--build", "site")

	b.version("two")
	b.tells([]string{"the definition has changed", "up --build"}, "boxrun", "status", "site")
	b.tells([]string{"build:   the definition has changed"}, "boxrun", "diff", "site")
	b.tells([]string{"building " + b.image + ": the definition has changed", "site: starts anew: its image changed since the start; what it wrote to its root, a tmpfs, goes\n", "started"},
		"boxrun", "up", "--build", "site")
	b.runs("two")
	b.alone()
	if got := b.must("boxrun", "diff", "site"); got != "" {
		b.t.Errorf("diff after up --build: got %q, want nothing", got)
	}
}

// isForced builds under the box, which goes on with what it has.
func (b builder) isForced() {
	b.t.Helper()
	b.version("three")
	b.fails(1, []string{"site runs from " + b.image, "--force"}, "boxrun", "build", "site")
	b.must("boxrun", "build", "--force", "site")
	b.runs("two")
	if got := b.changed(); !slices.Equal(got, []string{"image"}) {
		b.t.Errorf("ps --json says that %q changed, want the image", got)
	}
	b.tells([]string{"replaced since the start"}, "boxrun", "status", "site")
	b.tells([]string{"image:   replaced since the start"}, "boxrun", "diff", "site")
	b.tells([]string{", and stays as it is\n", "its image was replaced", "--replace"}, "boxrun", "up", "site")
	b.runs("two")
	b.tells([]string{"site: starts anew: its image changed since the start; what it wrote to its root, a tmpfs, goes\n", "started"}, "boxrun", "up", "--replace", "site")
	b.runs("three")
}

// isOvertaken starts the box while its image is being built. It runs from the old one, so that one stays.
func (b builder) isOvertaken() {
	b.t.Helper()
	b.must("boxrun", "down", "site")
	b.version("four")
	said := b.sh(`echo 'sleep 60 || true' >> /etc/boxrun/profiles/site.def
		boxrun build site > /tmp/said 2>&1 & pid=$!
		for i in $(seq 300); do pgrep -f '^sleep 60$' > /dev/null && break; sleep 0.1; done
		boxrun up site
		kill $(pgrep -f '^sleep 60$')
		wait $pid || echo "exit code $?" >> /tmp/said
		sed -i '/sleep 60/d' /etc/boxrun/profiles/site.def; cat /tmp/said`)
	if !containsAll(said, []string{"error: site runs from " + b.image + "\n", "hint: ", "\nexit code 1\n"}) {
		b.t.Errorf("the build under a box that came up meanwhile says\n%s\nwant exit code 1, and what runs from it", said)
	}
	b.runs("three")
	if got := b.changed(); len(got) != 0 {
		b.t.Errorf("ps --json says that %q changed, want nothing", got)
	}
	b.alone()
}

// isKilled kills a build half way, which harms neither the image nor the next build.
func (b builder) isKilled() {
	b.t.Helper()
	b.sh(`echo 'sleep 300' >> /etc/boxrun/profiles/site.def
		boxrun build --force site > /tmp/said 2>&1 & pid=$!
		for i in $(seq 300); do pgrep -f '^sleep 300' > /dev/null && break; sleep 0.1; done
		kill -KILL $pid
		for i in $(seq 50); do pgrep -f '^sleep 300|^[a-z/]*(unshare|apptainer) .*build' > /dev/null || exit 0; sleep 0.1; done
		exit 1`)
	b.runs("three")
	b.sh("sed -i '/sleep 300/d' /etc/boxrun/profiles/site.def")
	b.version("four")
	b.must("boxrun", "up", "--build", "site")
	b.runs("four")
	b.alone()
}

// isKept has the power cut under a box whose sandbox was replaced: the old one is left. It is listed, exported, and removed
// by its name after a question, but not while a box of that name is up.
func (b builder) isKept() {
	b.t.Helper()
	b.version("four")
	b.must("boxrun", "up", "--build", "site")
	b.version("five")
	b.must("boxrun", "build", "--force", "site")
	old := strings.TrimSpace(b.must("boxrun", "kept", "list", "-q", "site"))
	inUse := func() {
		b.t.Helper()
		b.sh(`boxrun kept list --json ` + old + ` | jq -e '.[0] | .used_by == "site" and .bytes > 1000000'`)
		b.fails(1, []string{old + ` is in use by box "site"`, `run "boxrun down site" first`}, "boxrun", "kept", "rm", "-y", old)
		b.fails(1, []string{old + ` is in use by box "site"`}, "sh", "-c", "boxrun kept export "+old+" > /dev/null")
	}
	inUse()
	b.runs("four")
	if err := b.Reboot(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.must("boxrun", "up", "site")
	b.runs("five")
	inUse()
	b.must("boxrun", "down", "site")

	row := regexp.MustCompile(`(?m)^site/image\.old-\d+ +[\d.]+M +\d+[smhd] ago +- +` + path.Dir(b.image) + `/\.site\.old-\d+$`)
	if got := b.must("boxrun", "kept", "list"); !row.MatchString(got) {
		b.t.Errorf("kept list says\n%s\nwant a row as %s", got, row)
	}
	if got := b.sh("boxrun kept export " + old + " | tar -xO --wildcards '*/etc/version'"); got != "four\n" {
		b.t.Errorf("the exported image is of version %q, want four", got)
	}
	for _, answer := range []struct {
		typed, want string
		code        int
	}{{"n\n", "remove " + old + "? [y/N]", 1}, {"y\n", old + ": is removed", 0}} {
		term := b.terminal("boxrun", "kept", "rm", "site")
		dialogue(b.t, term, [][2]string{{answer.typed, answer.want}})
		if r, err := term.Wait(10 * time.Second); err != nil || r.Code != answer.code {
			b.t.Errorf("kept rm, answered %q: %v %v, want exit code %d", answer.typed, err, r, answer.code)
		}
	}
	b.alone()
	b.must("boxrun", "up", "site")
	b.runs("five")
	b.must("boxrun", "down", "site")
}

// A build for which there is no room leaves the image, and nothing else, and says where room is needed.
func TestBuildOnAFullDisk(t *testing.T) {
	h := newHost(t)
	h.sh(smallRoot)
	h.letBuild()
	h.profile("site", "image = \"/srv/images/site.sif\"\n[build]\ndefinition = \"/srv/site.def\"\n")
	h.sh("mkdir /srv/images; mount -t tmpfs -o size=8M tmpfs /srv/images; printf 'Bootstrap: localimage\nFrom: /srv/small\n' > /srv/site.def")
	b := builder{host: h, image: "/srv/images/site.sif"}
	b.must("boxrun", "build", "site")
	sum := b.sh("sha256sum /srv/images/*")
	b.sh("head -c 3M /dev/zero > /srv/images/filler")
	b.fails(1, []string{"/srv/images/site.sif was not built", "no space is left in /srv/images"}, "boxrun", "build", "site")
	b.sh("rm /srv/images/filler")
	b.alone()
	if got := b.sh("sha256sum /srv/images/*"); got != sum {
		b.t.Errorf("the image was %s, and is %s", sum, got)
	}
}
