package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

// playInit plays the first process of a box, and ends with the behaviour.
func playInit() {
	name, _ := os.ReadFile("/etc/hostile") // without a name: an idle init
	signal.Ignore()
	switch strings.TrimSpace(string(name)) {
	case "ends":
		os.Exit(255)
	case "prints":
		forever(time.Millisecond, func() { _, _ = os.Stdout.WriteString(strings.Repeat("flood ", 2000)) })
	case "nasty":
		_, _ = os.Stdout.WriteString(nasty + "\nFailed to start " + nasty + ".\n")
		os.Exit(1)
	case "zombies":
		for range 1000 {
			_ = exec.Command("/sbin/init", "list").Start() // nobody waits for the child
		}
	case "endless":
		playSystemd(func(c net.Conn) { stream(c, bytes.Repeat([]byte{'x'}, 1<<16), 0) })
	case "deaf":
		playSystemd(func(c net.Conn) { authorize(c); stream(c, message(4, 0, nil), 0) })
	case "errors":
		playSystemd(func(c net.Conn) { authorize(c); answerAll(c, 3) })
	}
	time.Sleep(lasting)
}

// playSystemd has answer take the connections meant for systemd.
func playSystemd(answer func(net.Conn)) {
	_ = os.MkdirAll("/run/systemd/system", 0o755)
	_ = serve(private, answer)
}
