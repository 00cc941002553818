package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processes play with what a box's processes are called, how many there are, and what its systemd does.
func processes() []behaviour {
	return []behaviour{
		{"hostname", func() error { return unix.Sethostname([]byte(nasty)) }},
		{"hostname-empty", func() error { return unix.Sethostname(nil) }},
		{"domainname", func() error { return unix.Setdomainname([]byte(nasty)) }},
		{"title", title},
		{"title-long", func() error { return start(exec.Command("/bin/sleep", "100", strings.Repeat("0", 100_000))) }},
		{"forks", func() error { return many(300) }},
		{"fork-storm", func() error {
			forever(5*time.Millisecond, func() { _ = exec.Command("/bin/true").Run() })
			return nil
		}},
		{"deaf-units", sh("for i in 1 2 3; do systemd-run -q -p TimeoutStopSec=infinity -p SendSIGKILL=no " +
			"sh -c 'trap \"\" TERM HUP INT; while :; do sleep 9; done'; done")},
		{"failed-units", sh("for i in $(seq 30); do systemd-run -q --unit=f$i " +
			"--description=\"$(printf 'x\\033[2Jy%080d' 0)\" false; done; sleep 0.5")},
		{"unit-named", sh("systemd-run -q --unit=\"$(printf 'f\\033[31m')\" " +
			"--description=\"$(printf 'x\\033[2Jy')\" false || true; sleep 0.3")},
		{"jobs-many", sh("for i in $(seq 100); do systemd-run -q --no-block -p ExecStartPre='sleep 60' true; done")},
		{"system-crashes", sh("kill -SEGV 1; sleep 0.3")},
		{"system-aborts", sh("kill -ABRT 1; sleep 0.3")},
		{"reexec", func() error {
			forever(100*time.Millisecond, func() { _ = exec.Command("kill", "-TERM", "1").Run() })
			return nil
		}},
		{"reload", func() error {
			forever(100*time.Millisecond, func() { _ = exec.Command("systemctl", "daemon-reload").Run() })
			return nil
		}},
		{"rescue", sh("systemctl --no-block isolate rescue.target; sleep 0.5")},
		{"kill-all", func() error { forever(200*time.Millisecond, killAll); return nil }},
		{"soft-reboot", sh("systemctl --no-block reboot")},
		{"poweroff", sh("systemctl --no-block poweroff")},
		{"frozen", sh("echo 1 > /sys/fs/cgroup/init.scope/cgroup.freeze")},
		{"frozen-all", sh("c=/sys/fs/cgroup; for d in $c/*/; do [ -e $d/cgroup.freeze ] && echo 1 > $d/cgroup.freeze; done")},
		{"cgroups-many", sh("for i in $(seq 2000); do mkdir /sys/fs/cgroup/many$i; done")},
		{"cgroup-name", func() error { return os.Mkdir("/sys/fs/cgroup/"+nasty[:20], 0o755) }},
		{"limits", sh("prlimit --pid 1 --nofile=5:5 --nproc=1:1")},
		{"time", sh("mount -t tmpfs none /usr/share/zoneinfo; rm -f /etc/localtime; mkfifo /etc/localtime")},
		{"preload", sh("mkfifo /etc/ld.so.preload")},
		{"profile", sh("mkfifo /etc/profile.d/hostile.sh; printf 'printf \"\\\\033[2J\"' > /root/.bashrc; mkfifo /root/.profile")},
		{"path", func() error { return os.WriteFile("/usr/local/bin/true", []byte("#!/bin/sh\nsleep 100\n"), 0o755) }},
	}
}

// title starts a process with a name and arguments to harm a terminal.
func title() error {
	cmd := exec.Command("/bin/sleep", "100")
	cmd.Args[0] = nasty
	if err := start(cmd); err != nil {
		return err
	}
	return os.WriteFile("/proc/self/comm", []byte(nasty), 0)
}

func start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Start()
}

// many starts n idle processes.
func many(n int) error {
	for range n {
		if err := exec.Command("/bin/sleep", "100").Start(); err != nil {
			return err
		}
	}
	return nil
}

// killAll kills all processes of the box but this process and init.
func killAll() { _ = syscall.Kill(-1, syscall.SIGKILL) }
