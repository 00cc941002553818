package e2e

import (
	"strings"
	"testing"
)

// What boxrun or Apptainer has lost, or finds broken, is put back, or named with the verb that puts the host right. The
// last down leaves nothing in any case.
func TestStateThatIsLostOrBroken(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "down", "web")
	before := h.dump()
	const record = "/root/.apptainer/instances/app/host/root/web"
	for _, c := range []struct{ name, damage, says, mends, after string }{
		{"a record without a state", `echo '{"version":1,"state":null}' > /run/boxrun/boxes/web.json`, "web.json holds no state", "", "down web"},
		{"a record of another box", `cp /run/boxrun/boxes/hello.json /run/boxrun/boxes/web.json`, `is of the box "hello"`, "", "down web"},
		{"all records lost", `rm -r /run/boxrun`, `the box "web" runs, but boxrun's record of it is gone`, "", "down --all"},
		{"the log of the host", `echo garbage > /run/boxrun/host.json`, "host.json cannot be read", "mended", "down web hello"},
		{"a log without a plan", `echo '{"version":1,"state":{}}' > /run/boxrun/host.json`, "host.json holds no plan", "mended", "down web hello"},
		{"the log of the bridge", `: > /run/boxrun/bridges/sbr0.json`, "sbr0.json cannot be read", "mended", "down web hello"},
		{"apptainer.conf", `rm /run/boxrun/apptainer.conf`, "apptainer.conf is missing", "mended", "down web hello"},
		{"Apptainer's record", `rm -r ` + record, "web.json is missing", "mended", "down web hello"},
		{"an empty record of Apptainer's", `: > ` + record + `/web.json`, "web.json is missing", "mended", "down web hello"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.must("boxrun", "up", "hello", "web")
			h.sh(c.damage)
			for _, verb := range []string{"diff", "status"} {
				if r := h.run("boxrun", verb, "web"); !strings.Contains(r.Stdout+r.Stderr, c.says) {
					t.Errorf("%s: %v\nwant %q", verb, r, c.says)
				}
			}
			if r := h.run("boxrun", "repair"); !strings.Contains(r.Stderr, c.says) || (r.Code == 0) != (c.mends != "") {
				t.Errorf("repair: %v", r)
			}
			if c.mends != "" {
				h.must("boxrun", "exec", "web", "--", "true")
				h.sh(c.damage)
			} else if r := h.run("boxrun", "up", "web"); r.Code != 1 || !strings.Contains(r.Stderr, `"boxrun down web"`) {
				t.Errorf("up: %v", r)
			}
			h.must("bash", "-c", "boxrun "+c.after+" && boxrun down --all")
			h.same(before, stays()...)
		})
	}
}

// The logs of IPv6 are lost or broken like others, and the last down leaves nothing of both families.
func TestLostLogsOfIPv6(t *testing.T) {
	h := newHost(t)
	h.profile("six", "image = \"builtin:hello\"\n[network]\nports = [\"8080:80\"]\nsubnet6 = \"auto\"\n")
	h.must("boxrun", "up", "six")
	h.must("boxrun", "down", "six")
	before := h.dump()
	for _, c := range []struct{ name, damage string }{
		{"all records", `rm -r /run/boxrun`},
		{"the log of the host", `echo garbage > /run/boxrun/host6.json`},
		{"the log of the bridge", `: > /run/boxrun/bridges/sbr0.json`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.must("boxrun", "up", "six")
			h.sh(c.damage)
			h.must("boxrun", "down", "--all")
			h.same(before, stays()...)
		})
	}
}
