package e2e

import (
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// onOldCgroups runs a script as on a host that has cgroups of the first version, and no systemd that would mind. The
// hierarchies are those of this machine, in a cgroup of the test's own.
func (h host) onOldCgroups(script string) testhost.Result {
	h.t.Helper()
	const own = "boxruntest-v1"
	const enter = `set -e; mkdir /tmp/devices /tmp/systemd
		mount -t cgroup -o devices cgroup /tmp/devices; mount -t cgroup -o none,name=systemd cgroup /tmp/systemd
		for d in /tmp/devices /tmp/systemd; do mkdir $d/` + own + `; echo $$ > $d/` + own + `/cgroup.procs; done
		code=0; unshare -C -m bash -c "$1" || code=$?
		for d in /tmp/devices /tmp/systemd; do
			echo $$ > $d/cgroup.procs
			for i in $(seq 60); do find $d/` + own + ` -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.05; done
			umount $d; rmdir $d
		done; exit $code`
	const mounts = `umount -R /sys/fs/cgroup; mount -t tmpfs tmpfs /sys/fs/cgroup; mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/devices
		mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd; mount -t cgroup -o devices cgroup /sys/fs/cgroup/devices
		mount -t tmpfs tmpfs /run/systemd; `
	return h.run("unshare", "-m", "bash", "-c", enter, "bash", mounts+script)
}

// On a host with cgroups of the first version, as Enterprise Linux 8 has, a box with an older systemd boots, and a box
// with a newer systemd says what the host lacks.
func TestCgroupsOfTheFirstVersion(t *testing.T) {
	if !soak() {
		t.Skip("at full length only: make soak")
	}
	h := bootHost(t, testhost.NewSid)
	if h.run("unshare", "-m", "mount", "-t", "cgroup", "-o", "devices", "cgroup", "/mnt").Code != 0 {
		cannot(t, "this machine has no cgroups of the first version")
	}
	const noDevices = "\n[security]\nlevel = \"host\"\n"
	h.sh("mkdir /srv/sid; mount --bind / /srv/sid; mksquashfs /srv/sid /var/sid.sqfs -no-progress -comp lz4 -wildcards -e 'proc/*' 'sys/*' 'dev/*' 'run/*' 'tmp/*' 'var/*' 'srv/*' > /dev/null")
	h.profile("sid", `image = "/srv/sid"`+noDevices)
	h.profile("sif", `image = "/var/sid.sqfs"`+noDevices)
	h.profile("old", `image = "`+testhost.WebImage+`"`+noDevices)
	h.profile("limited", `image = "`+testhost.WebImage+`"`+noDevices+"[resources]\npids = 100\n")
	for _, c := range []struct{ name, word string }{
		{"sid", `sid.toml: image: "/srv/sid" has systemd 26`},
		{"sif", "a systemd of 258 or newer in the image ends at once"},
		{"limited", "this host has version 1 or a mixture"},
	} {
		r := h.onOldCgroups("boxrun up " + c.name)
		if r.Code == 0 || !containsAll(r.Stderr, []string{c.word, "hint: boot the host with systemd.unified_cgroup_hierarchy=1"}) {
			t.Errorf("up %s: %v\nwant %q, and the hint", c.name, r, c.word)
		}
	}
	r := h.onOldCgroups("boxrun up old && boxrun ps; boxrun doctor; boxrun down old")
	if !strings.Contains(r.Stdout, "running") || !strings.Contains(r.Stdout, "version 1 or a mixture") {
		t.Errorf("up old: %v\nwant it up, and doctor to know", r)
	}
}

// heldApptainer is an apptainer for $PATH that waits, before a command enters a box, until a test has had its way.
const heldApptainer = `mkdir -p /srv/held; cat > /srv/held/apptainer <<'END'
#!/bin/sh
case " $* " in *" exec "*) touch /srv/held/at; until [ -e /srv/held/go ]; do sleep 0.05; done ;; esac
exec /usr/bin/apptainer "$@"
END
chmod 755 /srv/held/apptainer`

// endHeld enters the box $1, has its init killed before Apptainer looks, and prints the code of exec. Apptainer's master is
// stopped, so that nobody reaps the init.
const endHeld = `state=/run/boxrun/boxes/$1.json; scope=$(jq -r .state.cgroup $state)
rm -f /srv/held/at /srv/held/go; PATH=/srv/held:$PATH boxrun exec $1 -- true 2> /srv/held/said & exec=$!
until [ -e /srv/held/at ]; do kill -0 $exec || exit; sleep 0.05; done
kill -STOP $(jq .state.master.pid $state); kill -KILL $(jq .state.init.pid $state)
while [ -d $scope ]; do sleep 0.05; done
touch /srv/held/go; wait $exec; echo $?`

// Of an init that has ended and is not reaped the kernel says "apptainer-PID.scope (deleted)", and Apptainer makes a cgroup of
// that name. boxrun leaves none: neither exec, nor a down after somebody else has entered the box.
func TestEnteredAsItEnds(t *testing.T) {
	h := newHost(t)
	h.sh(heldApptainer)
	const cgroups = `find /sys/fs/cgroup -depth -name 'apptainer-*'`
	for _, box := range []string{"hello", "web"} { // init in the scope itself, and in an init.scope below
		h.must("boxrun", "up", box)
		h.gives("125\n", "bash", "-c", endHeld, "held", box)
		h.gives("", "sh", "-c", cgroups)
		h.sh("! apptainer -s exec instance://" + box + " true")
		if made := h.sh(cgroups); made == "" {
			t.Error("Apptainer has made no cgroup anew")
		}
		h.sh("kill -CONT $(jq .state.master.pid /run/boxrun/boxes/" + box + ".json)")
		h.must("boxrun", "down", box)
		h.gives("", "sh", "-c", cgroups)
	}
}
