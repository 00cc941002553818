package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// measured is how a command went.
type measured struct {
	Code        int     `json:"code"`
	Seconds     float64 `json:"seconds"`
	MiB         int64   `json:"mib"`         // largest resident size, of children too
	Interrupted bool    `json:"interrupted"` // the command had to be interrupted
	Hung        bool    `json:"hung"`        // the command had to be killed
	Stdout      []byte  `json:"stdout"`
	Stderr      []byte  `json:"stderr"`
}

// most is how much of an output is kept.
const most = 1 << 20

// bounded keeps the first bytes written, and counts the rest as written.
type bounded struct{ text []byte }

func (b *bounded) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), most-len(b.text))]...)
	return len(p), nil
}

// measure runs a command and prints how the command went. The command has to end in so many seconds: then measure
// interrupts the command, and two seconds later kills the command. The kernel counts the memory of the starter of a
// command as the command's own, and measure is small.
func measure(seconds string, argv []string) error {
	limit, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return err
	}
	var m measured
	var stdout, stderr bounded
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	after := time.Duration(limit * float64(time.Second))
	interrupt := time.AfterFunc(after, func() {
		m.Interrupted = true
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	})
	kill := time.AfterFunc(after+2*time.Second, func() {
		m.Hung = true
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
	_ = cmd.Wait() // the state says how the command ended
	interrupt.Stop()
	kill.Stop()
	m.Seconds, m.Code = time.Since(began).Seconds(), cmd.ProcessState.ExitCode()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.MiB = usage.Maxrss >> 10
	}
	m.Stdout, m.Stderr = stdout.text, stderr.text
	return json.NewEncoder(os.Stdout).Encode(m)
}
