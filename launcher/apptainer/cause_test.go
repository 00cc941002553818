package apptainer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"boxrun/launcher/testkit"
)

// The logs are those of Apptainer 1.4.5.
func TestStartCause(t *testing.T) {
	const noise = "ERROR:   container cleanup failed: no instance found with name web\n"
	const starter = "\nFATAL:   while executing starter: failed to start instance: while running " +
		"/usr/lib/x86_64-linux-gnu/apptainer/bin/starter: exit status 255\n"
	for name, c := range map[string]struct{ log, want string }{
		"no init": {"FATAL:   exec /sbin/init failed: a shared library is likely missing in the image\n" + noise,
			"the image has no /sbin/init, or not the interpreter it needs"},
		"an init that is not executable": {"FATAL:   exec /sbin/init failed: permission denied\n" + noise,
			"the image's /sbin/init cannot be executed: permission denied"},
		"an init that dies":                      {"dying\n", ""},
		"an init that dies, on the command line": {"dying\n" + starter, ""},
		"boxrun as the init":                     {"confining the box: /sys: denied\n" + starter, "confining the box: /sys: denied"},
		"an address outside": {noise + `FATAL:   container creation failed: plugin type="bridge" failed (add): ` +
			"failed to allocate all requested IPs: 10.99.0.2\n", "the address 10.99.0.2 is not in the bridge's subnet"},
		"an address in use": {noise + `FATAL:   container creation failed: plugin type="bridge" failed (add): ` +
			"failed to allocate for range 0: requested IP address 10.22.0.77 is not available in range set " +
			"10.22.0.1-10.22.255.254\n", "the address 10.22.0.77 is taken by another box"},
		"a lease left over": {noise + `FATAL:   container creation failed: plugin type="bridge" failed (add): ` +
			"failed to allocate for range 0: 10.22.0.7 has been allocated to 34, duplicate allocation is not allowed\n",
			"the address 10.22.0.7 is leased to a box that is gone"},
		"a network unknown": {noise + "FATAL:   container creation failed: network setup failed: no net configuration " +
			"with name \"boxrun-x\" in /run/boxrun/cni\n",
			`network setup failed: no net configuration with name "boxrun-x" in /run/boxrun/cni`},
		"a bind without source": {noise + "FATAL:   container creation failed: mount hook function failure: mount " +
			"/nosuch->/mnt error: while mounting /nosuch: mount source /nosuch doesn't exist\n",
			"the bind's source /nosuch does not exist"},
		"limits without a controller": {noise + "FATAL:   container creation failed: while applying cgroups config: " +
			"while setting cgroup limits: openat2 /sys/fs/cgroup/system.slice/apptainer-1080.scope/memory.max: no such file or directory\n",
			"the rules of the box's cgroup cannot be set: while setting cgroup limits: openat2 " +
				"/sys/fs/cgroup/system.slice/apptainer-1080.scope/memory.max: no such file or directory"},
		"a host's systemd that executes itself anew": {noise + `FATAL:   container creation failed: while applying cgroups config: ` +
			`unable to start unit "apptainer-359.scope" (properties [{Name:Slice Value:"system.slice"}]): ` +
			"Message recipient disconnected from message bus without replying\n", hostAway},
		"a plugin that was killed": {noise + `FATAL:   container creation failed: plugin type="bridge" failed (add): ` +
			"netplugin failed with no error message: signal: killed\n", pluginKilled},
		"a scope that waits": {noise + `FATAL:   container creation failed: while applying cgroups config: unable to start unit "apptainer-525.scope" ` +
			`(properties [{Name:Slice Value:"system.slice"}]): Timeout waiting for systemd to create apptainer-525.scope` + "\n", scopeLate},
		"a capability missing": {"\x1b[91mERROR  : Requesting capability set 0x000001ffffbdffff while permitted capability " +
			"set is 0x000001fffeffffff\n\x1b[0m", "the kernel lacks a capability that Apptainer asks for " +
			`(see "root default capabilities" in apptainer.conf)`},
		"noise of the network plugins": {"ERROR:   could not delete networks: plugin type=\"firewall\" failed (delete): x\n" +
			noise + "FATAL:   container creation failed: error while setting network arguments: badly formatted\n" + starter,
			"error while setting network arguments: badly formatted"},
		"an image that is none": {"FATAL:   While checking container encryption: could not open image /x.sif: image format " +
			"not recognized\n", "While checking container encryption: could not open image /x.sif: image format not recognized"},
		"an init that dies, and the end of its service": {"dying\nboxrun: waiting for boxrun up (pid 7), which works on box \"web\"\nboxrun: web: is down\n", ""},
		"the end of its service alone":                  {"boxrun: waiting for boxrun up (pid 7), which works on box \"web\"\n", ""},
		"nothing":                                       {"", ""},
		"success":                                       {"INFO:    instance started successfully\n", ""},
	} {
		t.Run(name, func(t *testing.T) { testkit.WantText(t, Cause(c.log), c.want) })
	}
}

// A start that took too long for Apptainer may be tried again, and no other: not a plugin that was killed early, nor what
// somebody stopped.
func TestLateStarts(t *testing.T) {
	dir := t.TempDir()
	plugin := `FATAL:   container creation failed: plugin type="bridge" failed (add): netplugin failed with no error message: signal: killed`
	scope := `FATAL:   container creation failed: while applying cgroups config: unable to start unit "a": Timeout waiting for systemd to create a`
	for name, c := range map[string]struct {
		log    string
		age    time.Duration
		taken  bool
		isBusy bool
	}{
		"a plugin in time":     {plugin, time.Second, false, false},
		"a plugin":             {plugin, 6 * time.Second, false, true},
		"a scope":              {scope, 31 * time.Second, false, true},
		"a scope, and stopped": {scope, 31 * time.Second, true, false},
		"another cause":        {"FATAL:   exec /sbin/init failed: permission denied", time.Minute, false, false},
	} {
		log := filepath.Join(dir, name)
		if err := os.WriteFile(log, []byte(c.log+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cli := NewCommand("web", "/srv/web", log, 0, time.Minute)
		cli.began, cli.Taken = time.Now().Add(-c.age), c.taken
		close(cli.Done)
		if got := errors.Is(cli.Failed(errors.New("exit status 255")), ErrHostBusy); got != c.isBusy {
			t.Errorf("%s: ErrHostBusy is %v, want %v", name, got, c.isBusy)
		}
	}
}

// What a box says last is told, and not blamed: somebody may have killed the box.
func TestLastWords(t *testing.T) {
	log := filepath.Join(t.TempDir(), "web.err")
	if err := os.WriteFile(log, []byte("an older start\nWelcome to Debian!\n\nboxrun: web: is down\nINFO:    instance started\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := NewCommand("web", "/srv/web", log, int64(len("an older start\n")), time.Minute)
	testkit.WantText(t, c.Failed(errors.New("signal: killed")).Error(),
		"web: the box did not start: signal: killed; the last line in its log: Welcome to Debian!")
}
