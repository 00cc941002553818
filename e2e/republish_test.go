package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// published is the profile of a box with ports.
func published(ports, more string) string {
	return "image = \"/srv/web\"\n[network]\nports = [" + ports + "]\n" + more
}

// An up brings changed ports and clients to a box that runs: the box and open connections stay, and what a start would be
// refused for is refused with the old ports in place.
func TestAnUpFollowsChangedPorts(t *testing.T) {
	h := newHost(t)
	h.profile("other", "image = \"builtin:hello\"\n[network]\nports = [\"8089:80\"]\n")
	h.profile("web", published(`"80"`, ""))
	h.must("boxrun", "up", "web", "other")
	pid := 0
	for _, b := range boxes(h) {
		if b.Name == "web" {
			pid = b.PID
		}
	}
	h.must("boxrun", "exec", "web", "--", "sh", "-c", "head -c 40000000 /dev/zero > /var/www/html/big")
	open := h.downloads()

	h.profile("web", published(`"80", "8080:80", "[::]:8081:80"`, ""))
	r := h.run("boxrun", "up", "web")
	if r.Code != 0 || !containsAll(r.Stderr, []string{"web: follows its profile: network.ports: ", "0.0.0.0:8080->80/tcp on ALL addresses"}) {
		t.Errorf("up: %v\nwant the change, and who can reach the port", r)
	}
	h.answersAt(map[string]bool{"192.0.2.1:80": true, "192.0.2.1:8080": true, "192.0.2.1:8081": false})
	if got := <-open; got != "40000000" {
		t.Errorf("a connection that was open brought %s bytes, want 40000000", got)
	}

	h.profile("web", published(`"8080:80"`, `allow_from = ["198.51.100.0/24"]`))
	if dry := h.must("boxrun", "up", "--dry-run", "web"); !strings.Contains(dry, "198.51.100.0/24") {
		t.Errorf("up --dry-run: %s\nwant the rules for the clients", dry)
	}
	h.must("boxrun", "up", "web")
	h.answersAt(map[string]bool{"192.0.2.1:80": false, "192.0.2.1:8080": false})

	h.profile("web", published(`"8080:80"`, ""))
	h.must("boxrun", "up", "--replace", "web")
	h.answersAt(map[string]bool{"192.0.2.1:80": false, "192.0.2.1:8080": true})

	h.profile("web", published(`"8080:80", "8089:80"`, ""))
	h.fails(1, []string{"host port 8089/tcp is taken by box", "other"}, "boxrun", "up", "web")
	h.answersAt(map[string]bool{"192.0.2.1:8080": true, "192.0.2.1:8089": true})
	if now := h.sh("boxrun ps --json | jq -c '.[] | select(.name == \"web\") | [.pid, .drift, .changed]'"); now != fmt.Sprintf("[%d,[],[\"profile\"]]\n", pid) {
		t.Errorf("web has pid, drift and changes %s, want %d, none, and the profile", now, pid)
	}
	if !strings.Contains(h.must("cat", "/sys/fs/cgroup/cgroup.controllers"), "memory") {
		h.profile("web", published(`"8085:80"`, "[resources]\nmemory = \"512M\"\n"))
		h.fails(1, []string{"resources.memory: there is no memory controller here"}, "boxrun", "up", "web")
		h.answersAt(map[string]bool{"192.0.2.1:8080": true, "192.0.2.1:8085": false})
	}
	h.must("boxrun", "down", "--all")
}

// downloads begins a download of some 5 s from the box web, and returns where the number of bytes comes that it brought. It
// ends early where nothing comes for some time.
func (h host) downloads() <-chan string {
	brought := make(chan string, 1)
	go func() {
		r, err := h.Client(h.t.Context(), "curl", "-s", "-m", "60", "--limit-rate", "8M", "--speed-limit", "1", "--speed-time", "3",
			"-o", "/dev/null", "-w", "%{size_download}", "http://192.0.2.1/big")
		if err != nil {
			r.Stdout = err.Error()
		}
		brought <- r.Stdout
	}()
	h.sh("for i in $(seq 200); do boxrun exec web -- ss -Htn state established '( sport = :80 )' | grep -q . && exit 0; sleep 0.05; done; exit 1")
	return brought
}

// answersAt wants an answer to the client at some places, and none at others.
func (h host) answersAt(want map[string]bool) {
	h.t.Helper()
	for at, wanted := range want {
		got := h.client("bash", "-c", "curl -s -m 2 -o /dev/null -w '%{http_code}' http://"+at+"/ || true")
		if (strings.TrimSpace(got) == "200") != wanted {
			h.t.Errorf("the client asked %s: %s; an answer is wanted: %v", at, got, wanted)
		}
	}
}

// What up --dry-run prints for changed ports does the same when typed.
func TestChangedPortsTyped(t *testing.T) {
	h := newHost(t)
	h.profile("web", published(`"80"`, ""))
	h.must("boxrun", "up", "web")
	first := h.dump()
	h.profile("web", published(`"8080:80", "9000-9003:9000-9003"`, `allow_from = ["192.0.2.0/24"]`))
	script := h.must("boxrun", "up", "--dry-run", "web")
	h.same(first, "web.toml")
	h.must("boxrun", "up", "web")
	want := h.dump()
	h.profile("web", published(`"80"`, ""))
	h.must("boxrun", "up", "web")
	h.same(first)
	if r := h.run("bash", "-ec", script); r.Code != 0 {
		t.Fatalf("typing\n%s: %v", script, r)
	}
	got := h.dump()
	for _, section := range []string{"iptables-nft", "ip6tables-nft", "nft"} {
		if got, want := got.Section(section), want.Section(section); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", section, got, want)
		}
	}
}
