package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// control is the machine that runs Ansible, on the link of the hosts.
type control struct {
	site
	dir string // of Ansible, of a key for the hosts, and of the inventory
}

// Ansible brings boxrun, its profiles and images to three hosts, and starts the boxes there. The second run changes nothing,
// and the third one brings what is new. The test fetches Ansible from PyPI.
func TestAnsible(t *testing.T) {
	if os.Getenv("BOXRUN_SOAK") == "" {
		t.Skip("fetches Ansible from PyPI: run \"make soak\"")
	}
	c := newControl(t)
	if got := c.play(); got != "changed failed=0" {
		t.Errorf("the first run: %s", got)
	}
	c.everywhere(func(n int) {
		c.must(n, `curl -fsS http://127.0.0.1:8080/ | grep page; test -x /usr/lib/ocf/resource.d/boxrun/box
test -e /etc/systemd/system/multi-user.target.wants/boxrun@page.service; boxrun up web`)
	})
	if got := c.play(); got != "unchanged failed=0" {
		t.Errorf("the second run: %s", got)
	}
	c.put("page.toml", "image = \"builtin:hello\"\n[network]\nports = [\"8081:80\"]\n")
	if got := c.play(); got != "changed failed=0" {
		t.Errorf("a run with another profile: %s", got)
	}
	c.everywhere(func(n int) { c.must(n, "curl -fsS http://127.0.0.1:8081/ | grep page") })
	c.put("page.toml", "image = 7\n")
	if got := c.play(); !strings.HasSuffix(got, "failed=1") {
		t.Errorf("a run with a profile that is wrong: %s", got)
	}
	c.everywhere(func(n int) { c.must(n, "grep 8081 /etc/boxrun/profiles/page.toml") })
}

// newControl has three hosts with sshd and without boxrun, and Ansible for them.
func newControl(t *testing.T) control {
	t.Helper()
	hosts := threeHosts(t)
	c := control{site{t: t, hosts: hosts}, t.TempDir()}
	if err := testhost.Build(t.Context(), c.dir); err != nil {
		t.Fatal(err)
	}
	c.runs(exec.CommandContext(t.Context(), "python3", "-m", "venv", c.dir+"/venv"))
	c.runs(exec.CommandContext(t.Context(), c.dir+"/venv/bin/pip", "install", "-q", "ansible-core"))
	c.runs(exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", c.dir+"/key"))
	for n, h := range hosts {
		if err := h.Copy(t.Context(), c.dir+"/key.pub", "/root/.ssh/authorized_keys"); err != nil {
			t.Fatal(err)
		}
		c.must(n+1, "systemctl start ssh")
	}
	c.put("page.toml", "image = \"builtin:hello\"\n[network]\nports = [\"8080:80\"]\n")
	c.put("web.toml", "image = \"/srv/images/web.sif\"\n[ready]\nhttp = [\"http://:80/\"]\n")
	c.must(1, "mksquashfs /srv/web /srv/shared/web.sif -comp zstd -Xcompression-level 1 -quiet -no-progress > /dev/null")
	c.put("boxes.yml", fmt.Sprintf(`boxrun_program: %[1]s/boxrun
boxrun_agent: %[2]s/cluster/ocf/box
boxrun_profiles: [%[1]s/page.toml, %[1]s/web.toml]
boxrun_images: [{src: %[3]s, dest: /srv/images/web.sif}]
boxrun_enabled: [page]
boxrun_clustered: [web]
`, c.dir, c.top(), hosts[0].Shared("web.sif")))
	return c
}

// top gives the directory of the repository.
func (c control) top() string {
	top, err := filepath.Abs("../..")
	if err != nil {
		c.t.Fatal(err)
	}
	return top
}

func (c control) put(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// runs runs a command that has to succeed.
func (c control) runs(cmd *exec.Cmd) {
	c.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

// recap is what a run says of a host at its end.
var recap = regexp.MustCompile(`(?m)^198\.51\.100\.\d+ .* changed=(\d+) .* failed=(\d+) `)

// notable are the lines of a run about what was changed and what failed, and the names of tasks.
var notable = regexp.MustCompile(`(?m)^(TASK|RUNNING HANDLER|changed|failed|fatal).*`)

// play runs the playbook for all hosts, and says whether anything was changed, and on how many hosts it failed at most.
func (c control) play() string {
	c.t.Helper()
	inventory := ""
	for n := range c.hosts {
		inventory += testhost.LinkAddr(n+1) + ","
	}
	cmd := c.hosts[0].ClientCommand(c.t.Context(), "env", "HOME="+c.dir, "ANSIBLE_HOST_KEY_CHECKING=False", "ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3",
		c.dir+"/venv/bin/ansible-playbook", "-u", "root", "--private-key", c.dir+"/key", "-i", inventory,
		"-e", "@"+c.dir+"/boxes.yml", c.top()+"/cluster/ansible/site.yml")
	out, err := cmd.CombinedOutput()
	hosts := recap.FindAllStringSubmatch(string(out), -1)
	if len(hosts) != len(c.hosts) {
		c.t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	changed, failed := "unchanged", "0"
	for _, h := range hosts {
		if h[1] != "0" {
			changed = "changed"
		}
		failed = max(failed, h[2])
	}
	c.t.Logf("%s", strings.Join(notable.FindAllString(string(out), -1), "\n"))
	return changed + " failed=" + failed
}
