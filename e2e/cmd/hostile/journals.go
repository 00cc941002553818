package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// journals play with the ways of a line out of a box: the journal, the syslog socket, the standard output of init,
// kept by Apptainer in a file of the host.
func journals() []behaviour {
	here := func(script string) func() error {
		return sh("d=$(ls -d /run/log/journal/* /var/log/journal/* 2> /dev/null | head -n 1); " + script)
	}
	return []behaviour{
		{"journal-flood", func() error {
			forever(100*time.Microsecond, func() { logLine(strings.Repeat("flood ", 300)) })
			return nil
		}},
		{"journal-nasty", func() error {
			logLine(nasty)
			return sh("printf 'a\\033[2Jb\\007\\n' | systemd-cat -p err -t \"$(printf 'x\\033[31m')\"")()
		}},
		{"journal-long", func() error { logLine(strings.Repeat("x", 150_000)); return nil }},
		{"journal-gone", here("rm -rf $d")},
		{"journal-fifo", here("rm -rf $d/*; mkfifo $d/system.journal")},
		{"journal-link", here("rm -rf $d; ln -s /srv/canary $d")},
		{"journal-huge", here("truncate -s 4T $d/system@hostile.journal; truncate -s 4T $d/system.journal")},
		{"journal-garbage", here("head -c 300000 /dev/urandom > $d/system@a.journal; " +
			"dd if=/dev/urandom of=$d/system.journal bs=4k seek=1 count=20 conv=notrunc status=none")},
		{"journal-many", here("for i in $(seq 3000); do : > $d/system@$i.journal; done")},
		{"journald-stopped", sh("systemctl mask -q --runtime --now systemd-journald.socket systemd-journald-dev-log.socket; " +
			"for p in $(pidof systemd-journald); do kill -STOP $p; done")},
		{"console-flood", console(func(f *os.File) error { return flood(f, "flood\n", 200<<20) })},
		{"console-line", console(func(f *os.File) error { return flood(f, "flood", 200<<20) })},
		{"console-nasty", console(func(f *os.File) error {
			return flood(f, nasty+"\nsystemd[1]: Failed to start "+nasty+"\n", 1<<16)
		})},
	}
}

func logLine(text string) {
	if c, err := net.Dial("unixgram", "/dev/log"); err == nil {
		fmt.Fprintf(c, "<11>hostile: %s", text)
		c.Close()
	}
}

// console returns a behaviour at what the box's init has as its standard output.
func console(act func(*os.File) error) func() error {
	return func() error {
		f, err := os.OpenFile("/proc/1/fd/1", os.O_RDWR|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		return act(f)
	}
}

// flood writes text again and again, so many bytes in all.
func flood(f *os.File, text string, size int) error {
	block := strings.Repeat(text, 1<<16/len(text)+1)
	for written := 0; written < size; written += len(block) {
		if _, err := f.WriteString(block); err != nil {
			return nil // the disk is full: as good
		}
	}
	return nil
}
