package e2e

import (
	"strings"
	"testing"
)

// A box needs no file of the host's that minimal installations lack, and no source of a bind that the site's
// apptainer.conf names.
func TestAHostThatLacksFiles(t *testing.T) {
	h := newHost(t)
	h.sh("rm /etc/localtime; echo 'bind path = /site/nosuch' >> /etc/apptainer/apptainer.conf")
	h.must("boxrun", "up", "web")
	h.must("boxrun", "exec", "web", "--", "date")
	h.must("boxrun", "down", "web")

	t.Run("an external interface with a smaller MTU", func(t *testing.T) {
		h := h.in(t)
		h.must("boxrun", "up", "web")
		h.sh("ip link set eth0 mtu 1400")
		h.told("eth0 has an MTU of 1400 by now, and the box one of 1500")
		h.says([]string{"eth0 has an MTU of 1400 by now", "hint: \"boxrun restart web\" gives the box the smaller one"})
		h.must("boxrun", "restart", "web")
		if got := h.must("boxrun", "exec", "web", "--", "cat", "/sys/class/net/eth0/mtu"); got != "1400\n" {
			t.Errorf("the box has an MTU of %s, want 1400", got)
		}
		h.sh("ip link set eth0 mtu 1500")
		if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "in place") {
			t.Errorf("status says\n%swant a larger MTU to be no fault", got)
		}
		h.must("boxrun", "down", "web")
	})

	t.Run("a read-only root with the files of an earlier start", func(t *testing.T) {
		h := h.in(t)
		h.must("boxrun", "up", "web")
		const readOnly = "mount --bind / / && mount -o remount,ro,bind / && mount --bind /var /var && boxrun "
		h.sh("kill -9 $(boxrun status --json web | jq .pid); sleep 0.3")
		for _, verb := range []string{"up", "down"} {
			r := h.run("unshare", "-m", "bash", "-c", readOnly+verb+" web")
			if r.Code != 1 || strings.Count(r.Stderr, "\n") != 2 || !containsAll(r.Stderr, []string{"error: web: an earlier start left /root/.apptainer/", "hint: make the file system writable"}) {
				t.Errorf("%s: %v\nwant one error and a hint", verb, r)
			}
		}
		h.must("boxrun", "down", "web")
		h.fails(1, []string{"error: web: Apptainer cannot keep its records in /root/.apptainer/", "hint: make the file system writable"},
			"unshare", "-m", "bash", "-c", readOnly+"up web")
	})
}

// The cgroup that Apptainer makes for instances on a host without systemd goes with the last box, if a box's start made
// it.
func TestTheCgroupOfInstances(t *testing.T) {
	h := newHost(t)
	const dir = "/sys/fs/cgroup/apptainer"
	without := func(script string) string {
		t.Helper()
		return h.must("unshare", "-m", "bash", "-ec", "mount -t tmpfs tmpfs /run/systemd; "+script)
	}
	if got := without("boxrun up web; boxrun up hello; boxrun down web; ls -d " + dir + "; boxrun down hello --dry-run; boxrun down hello"); !strings.Contains(got, "rmdir --ignore-fail-on-non-empty "+dir) {
		t.Errorf("the dry run of down says\n%s", got)
	}
	h.sh("! ls -d " + dir)
	without("mkdir " + dir + "; boxrun up web; boxrun down web; rmdir " + dir)
}
