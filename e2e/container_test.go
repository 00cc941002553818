package e2e

import (
	"fmt"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// Each box is a machine with an id of its own, kept over starts, and each of its starts is a boot of its own: as
// systemd's CONTAINER_INTERFACE asks. The image has no id yet, as an image should.
func TestABoxIsAMachineOfItsOwn(t *testing.T) {
	h := newHost(t)
	h.sh("cp -a /srv/web /srv/golden; : > /srv/golden/etc/machine-id; mkdir -p /var/lib/journals")
	h.profile("one", "image = \"/srv/golden\"\n[storage]\nbinds = [\"/var/lib/journals:/var/log/journal\"]\n")
	h.profile("two", "image = \"/srv/golden\"\n[security]\nlevel = \"strict\"\n")
	h.must("boxrun", "up", "one", "two")
	ids := func(name string) (machine, boot string) {
		t.Helper()
		words := strings.Fields(h.must("boxrun", "exec", name, "--", "cat", "/etc/machine-id", "/proc/sys/kernel/random/boot_id"))
		if len(words) != 2 {
			t.Fatalf("%s: %q", name, words)
		}
		return words[0], words[1]
	}
	machine, boot := ids("one")
	other, otherBoot := ids("two")
	own := strings.Fields(h.sh("cat /etc/machine-id /proc/sys/kernel/random/boot_id"))
	if machine == other || machine == own[0] || other == own[0] || len(machine) != 32 {
		t.Errorf("machine ids: %s and %s, and %s of the host", machine, other, own[0])
	}
	if boot == otherBoot || boot == own[1] || otherBoot == own[1] || len(boot) != 36 {
		t.Errorf("boot ids: %s and %s, and %s of the host", boot, otherBoot, own[1])
	}
	h.must("boxrun", "exec", "one", "--", "systemd-cat", "-t", "first", "echo", "before the restart")
	h.must("boxrun", "exec", "one", "--", "journalctl", "--sync")
	h.must("boxrun", "restart", "one")
	if again, anew := ids("one"); again != machine || anew == boot {
		t.Errorf("after a restart: machine %s, want %s; boot %s, want another than %s", again, machine, anew, boot)
	}
	if boots := h.must("boxrun", "exec", "one", "--", "journalctl", "--list-boots", "--quiet", "--no-pager"); strings.Count(boots, "\n") < 2 {
		t.Errorf("the journal knows these boots:\n%s", boots)
	}
	if got := h.must("boxrun", "logs", "one"); !strings.Contains(got, "before the restart") {
		t.Error("logs does not show what the box said before its restart")
	}
	h.must("boxrun", "down", "--all")
}

// What an image says of the machine it once was does not keep it from being a box: its disks, and its cloud.
func TestAnImageThatWasAMachine(t *testing.T) {
	h := newHost(t)
	h.sh("cp -a /srv/web /srv/was")
	h.sh(`printf '%s\n' 'PARTUUID=0f1e2d3c-01 / ext4 discard,errors=remount-ro 0 1' 'PARTUUID=0f1e2d3c-0f /boot/efi vfat defaults 0 0' \
		'UUID=7d0c6a34-5f6f-4a3e-9d59-3f6e8e1e2a11 none swap sw 0 0' 'LABEL=data /data xfs nofail 0 2' > /srv/was/etc/fstab`)
	const unit = "[Unit]\\nDescription=%s\\n[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n"
	for _, name := range []string{"cloud-init-local", "cloud-init", "cloud-final", "harmless"} {
		h.sh(fmt.Sprintf("printf '"+unit+"' > /srv/was/etc/systemd/system/%s.service; ", name, name) +
			fmt.Sprintf("mkdir -p /srv/was/etc/systemd/system/multi-user.target.wants; ln -s ../%s.service /srv/was/etc/systemd/system/multi-user.target.wants/", name))
	}
	for level, more := range map[string]string{"default": "", "strict": "", "host": "[storage]\nbinds = [\"/dev/null:/etc/fstab\"]\n"} {
		h.profile("was", "image = \"/srv/was\"\n[ready]\ntimeout = \"20s\"\n[security]\nlevel = \""+level+"\"\n"+more)
		h.must("boxrun", "up", "was")
		if state := h.run("boxrun", "exec", "was", "--", "systemctl", "is-system-running").Stdout; state != "running\n" {
			t.Errorf("level %s: the box is %s%s", level, state, h.run("boxrun", "exec", "was", "--", "systemctl", "status", "--no-pager", "--failed"))
		}
		const want = "inactive\ninactive\ninactive\nactive\n"
		got := h.run("boxrun", "exec", "was", "--", "systemctl", "is-active", "cloud-init-local", "cloud-init", "cloud-final", "harmless")
		if got.Stdout != want {
			t.Errorf("level %s: units: got %q, want %q", level, got.Stdout, want)
		}
		h.must("boxrun", "down", "was")
	}
}

// What docs/containerinterface.md calls given is there, at both levels of confinement.
func TestTheContainerInterface(t *testing.T) {
	h := newHost(t)
	h.sh("cp -a /srv/web /srv/set; d=/srv/set/etc/systemd/system.control/dbus.service.d; mkdir -p $d; printf '[Service]\\nTasksMax=77\\n' > $d/50-TasksMax.conf")
	h.sh(`cd /srv/set/etc; printf 'tmpfs /mnt tmpfs size=1m,nofail 0 0\n' > fstab
		printf '#!/bin/sh\n' > rc.local; chmod +x rc.local
		mkdir systemd/system-generators; printf '#!/bin/sh\ntouch "$1/own"\n' > systemd/system-generators/systemd-run-generator; chmod +x systemd/system-generators/*`)
	for _, level := range []string{"default", "strict"} {
		h.profile("web", "image = \"/srv/set\"\nhostname = \"own.example.org\"\n[storage]\nbinds = [\"/srv:/srv/data\"]\n[security]\nlevel = \""+level+"\"\n")
		h.must("boxrun", "up", "web")
		for what, script := range map[string]string{
			"the hostname":             "test $(hostname) = own.example.org",
			"/sys is read-only":        "! touch /sys/kernel/x 2>&1 | grep -v Read-only || exit 1; findmnt -no OPTIONS /sys | grep -w ro",
			"/proc/sys is read-only":   "findmnt -no OPTIONS /proc/sys | grep -w ro; ! echo 1 > /proc/sys/vm/swappiness",
			"/proc/sys/net is not":     "cat /proc/sys/net/ipv4/ip_default_ttl > /tmp/ttl; cat /tmp/ttl > /proc/sys/net/ipv4/ip_default_ttl",
			"devices":                  "for d in null zero full random urandom tty ptmx; do test -c /dev/$d; done; ! echo x 2> /dev/null > /dev/full",
			"no udev":                  "! systemctl start systemd-udevd 2> /dev/null || exit 1; test $(systemctl show -P LoadState systemd-udevd) = masked",
			"cgroups of its own":       "grep -x 0::/init.scope /proc/1/cgroup; mkdir /sys/fs/cgroup/probe; rmdir /sys/fs/cgroup/probe",
			"container":                "systemd-detect-virt -c | grep -v none; tr '\\0' '\\n' < /proc/1/environ | grep -x container=apptainer",
			"container_uuid":           "tr '\\0' '\\n' < /proc/1/environ | grep -E '^container_uuid=[0-9a-f]{32}$'",
			"no idle generators":       "cd /run/systemd/generator; test ! -e getty.target.wants/console-getty.service; test -L ../system-generators/systemd-gpt-auto-generator",
			"generators at work":       "systemctl cat mnt.mount; systemctl is-active rc-local; test -e /run/systemd/generator/own",
			"a generator of use later": "printf '#!/bin/sh\\n' > /etc/init.d/late; chmod +x /etc/init.d/late; systemctl daemon-reload; systemctl start late",
			"no modules are loaded":    "for u in modprobe@{configfs,dm_mod,drm,efi_pstore,fuse,loop}.service sys-fs-fuse-connections.mount; do test $(systemctl show -P InactiveExitTimestampMonotonic $u) = 0; done; ! systemctl start modprobe@loop 2> /dev/null",
			"mounts without programs":  "for d in /dev/mqueue /dev/hugepages; do findmnt $d || test " + level + " = strict -a $d = /dev/hugepages; done; u=\"systemctl show dev-mqueue.mount -P\"; test $($u InactiveExitTimestampMonotonic) = $($u ActiveEnterTimestampMonotonic); test ! -e /sys/fs/fuse/connections/*",
			"no program to unmount":    "for u in etc-hosts etc-boxrun-masks srv-data; do test -z \"$(systemctl show -P Conflicts $u.mount)\"; done; systemctl show -P Conflicts mnt.mount | grep -x umount.target",
			"the journal at once":      "test ! -e /run/log/journal; test $(systemctl show -P ConditionResult systemd-journal-flush) = no; journalctl -b -n all -o cat -t systemd-journald | grep 'System Journal'",
			"no credentials of nobody": "test -z \"$(ls /run/credentials)\"; systemctl is-active systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-sysusers",
			"nobody asked at the end":  "test \"$(systemctl show -P LoadState systemd-ask-password-{console,wall}.path | sort -u | xargs)\" = masked",
			"no program to halt":       "test \"$(systemctl show -P SuccessAction -P ExecStart systemd-halt)\" = poweroff-force",
			"properties that are set":  "systemctl set-property nginx TasksMax=55; systemctl daemon-reload; test $(systemctl show -P TasksMax nginx) = 55",
			"properties of the image":  "test $(systemctl show -P TasksMax dbus.service) = 77",
			"LoadCredential from init": "systemd-run --wait --pipe -q -p SetCredential=a:b sh -c 'grep -x b $CREDENTIALS_DIRECTORY/a'",
		} {
			if r := h.run("boxrun", "exec", "web", "--", "bash", "-ec", script); r.Code != 0 {
				t.Errorf("level %s: %s: %v", level, what, r)
			}
		}
		if delegated := h.sh("systemctl show -P Delegate apptainer-$(jq .pid /root/.apptainer/instances/app/*/root/web/web.json).scope"); delegated != "yes\n" {
			t.Errorf("level %s: Delegate=%s", level, delegated)
		}
		h.must("boxrun", "down", "web")
	}
}

// An image that mounts the journal's place itself has its journal there from the first line, and credentials that an image
// keeps for systemd's own services reach them.
func TestAnImageWithMountsAndCredentials(t *testing.T) {
	h := newHost(t)
	h.sh(`cp -a /srv/web /srv/own; cd /srv/own/etc; echo 'tmpfs /var/log/journal tmpfs size=20m 0 0' > fstab
		mkdir credstore; echo 'hello from the image' > credstore/login.motd`)
	for _, level := range []string{"default", "host"} {
		h.profile("own", "image = \"/srv/own\"\n[storage]\nroot = \"overlay\"\n[security]\nlevel = \""+level+"\"\n")
		h.must("boxrun", "up", "own")
		h.must("boxrun", "exec", "own", "--", "bash", "-ec", `grep 'hello from the image' /etc/motd.d/*
			findmnt -no SIZE /var/log/journal | grep -w 20M; systemctl is-active systemd-journal-flush
			journalctl -b -o cat -D /var/log/journal -t systemd-journald | grep '^Journal started$'`)
		h.must("boxrun", "down", "own")
	}
}

// A soft-reboot inside would start the box anew without its binds, and is refused. The box is Debian 13, as the host is:
// the systemd of Debian 12 knows no soft-reboot yet.
func TestASoftRebootLosesNoBinds(t *testing.T) {
	h := newHost(t)
	h.sh("mkdir -p /srv/self /srv/data; mount --bind / /srv/self; touch /srv/data/kept")
	h.profile("self", "image = \"/srv/self\"\n[storage]\nbinds = [\"/srv/data:/data\"]\n[ready]\ntimeout = \"8s\"\n")
	h.run("boxrun", "up", "self")
	r := h.run("boxrun", "exec", "self", "--", "systemctl", "soft-reboot")
	if r.Code == 0 || !strings.Contains(r.Stderr, "systemd-soft-reboot.service is masked") {
		t.Errorf("soft-reboot: %v, want it refused as masked", r)
	}
	h.sh("sleep 3")
	if got := h.run("boxrun", "exec", "self", "--", "ls", "/data"); got.Stdout != "kept\n" {
		t.Errorf("the bind: %v", got)
	}
	h.must("boxrun", "down", "--timeout", "0", "self") // its services are the host's, and slow
}

// Another init than systemd is named by up, and told to stop as it understands it. The init is a shell by the name.
func TestAnotherInitIsToldToStop(t *testing.T) {
	h := newHost(t)
	h.sh(`cp -a /srv/web /srv/other; cd /srv/other/usr/sbin; rm -f init; cp ../bin/bash openrc-init
		printf '%s\n' '#!/usr/sbin/openrc-init' 'trap "exit 0" TERM' 'while :; do sleep 0.1; done' > init; chmod +x init`)
	h.profile("other", "image = \"/srv/other\"\n")
	r := h.run("boxrun", "up", "other")
	if r.Code != 0 || !strings.Contains(r.Stderr, "other: its init is openrc-init, not systemd: a stop sends SIGTERM\n") {
		t.Errorf("up: %v", r)
	}
	h.must("boxrun", "down", "other") // 6 if the box had to be killed
}

// The service by which clouds tell an instance its own credentials is not for boxes, unless a profile says so.
func TestInstanceMetadata(t *testing.T) {
	h := newHost(t)
	h.client("ip", "addr", "add", "169.254.169.254/32", "dev", "eth0")
	h.sh("ip route add 169.254.169.254/32 via " + testhost.ClientAddr)
	h.serve(h.probe, "serve", "metadata", "tcp/169.254.169.254:80")
	for _, c := range []struct {
		keys   string
		reach  bool
		status string
	}{
		{"", false, "in place"},
		{"metadata = \"allow\"\n", true, "in place"},
	} {
		h.profile("web", "image = \"/srv/web\"\n[network]\n"+c.keys)
		h.must("boxrun", "up", "--replace", "web")
		r := h.run("boxrun", "exec", "web", "--", "timeout", "3", "bash", "-c", "exec 3<> /dev/tcp/169.254.169.254/80")
		if got := r.Code == 0; got != c.reach {
			t.Errorf("profile with %q reaches the service: %v, want %v\n%v", c.keys, got, c.reach, r)
		}
		if got := h.must("boxrun", "status", "web"); !strings.Contains(got, c.status) {
			t.Errorf("profile with %q: status says\n%s", c.keys, got)
		}
	}
	h.must("boxrun", "down", "web")
}
