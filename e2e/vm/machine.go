package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// machine is a virtual machine, with a directory of its own on the real machine.
type machine struct {
	dir    string
	kernel string
}

// newMachine makes a machine that is off. The arguments are described at newDisk.
func newMachine(ctx context.Context, dir, program string, stages map[string]string, progress func(string)) (machine, error) {
	kernel, err := newDisk(ctx, dir, program, stages, progress)
	return machine{dir: dir, kernel: kernel}, err
}

// result is the result of a check of a stage.
type result struct {
	Name   string
	OK     bool
	Output string // of the check
}

// run boots the machine, runs a stage, and returns the results of the checks once the machine is off or restarts. words
// are added to the kernel's command line. A stage that did not reach its end is an error with the console.
func (m machine) run(ctx context.Context, stage string, words ...string) ([]result, error) {
	words = append(words, "stage="+stage)
	if err := m.qemu(ctx, strings.Join(words, " ")); err != nil {
		return nil, fmt.Errorf("running stage %s: %w; the console:\n%s", stage, err, m.console())
	}
	text, err := os.ReadFile(m.path("results"))
	if err != nil {
		return nil, err
	}
	results, done := parse(string(text))
	if !done {
		return results, fmt.Errorf("running stage %s: it did not get to its end; the console:\n%s\nresults:\n%s", stage, m.console(), text)
	}
	return results, nil
}

// qemu runs the machine until the machine is off or restarts, or ctx ends.
//
// The emulator of QEMU 7.2 miscompiles cmpxchg16b, and the kernel crashes at random. So the processor has no
// cmpxchg16b, and the command line tells the kernel so. The disk is an NVMe disk: Debian's cloud kernel has the driver
// built in, not as a module, and so needs no initrd. A getty hangs up the first serial port, so the results go to the
// second.
func (m machine) qemu(ctx context.Context, words string) error {
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "Haswell-noTSX,-cx16", "-smp", "2", "-m", "2048",
		"-drive", "file="+disk(m.dir)+",format=raw,if=none,id=d", "-device", "nvme,drive=d,serial=1",
		"-kernel", m.kernel, "-append", "root=/dev/nvme0n1 rw console=ttyS0 net.ifnames=0 clearcpuid=cx16 "+words,
		"-serial", "file:"+m.path("console"), "-serial", "file:"+m.path("results"),
		"-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread that started a process ends, and Go ends idle threads.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		ended <- err
	}()
	err := <-ended
	if ctx.Err() != nil {
		return fmt.Errorf("it was killed: %w", context.Cause(ctx))
	}
	return err
}

func (m machine) path(name string) string { return filepath.Join(m.dir, name) }

// console returns the last lines of the console, or the error where the console cannot be read.
func (m machine) console() string {
	text, err := os.ReadFile(m.path("console"))
	if err != nil {
		return err.Error()
	}
	const most = 6000 // bytes
	return string(text[max(0, len(text)-most):])
}

// parse reads the output of a stage: a line "ok NAME" or "not ok NAME" for each check, lines "# ..." with the output of
// the check, and "done" at the end. Without "done", done is false.
func parse(text string) (results []result, done bool) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "done" {
			return results, true
		}
		if output, ok := strings.CutPrefix(line, "# "); ok && len(results) > 0 {
			results[len(results)-1].Output += output + "\n"
		} else if name, ok := strings.CutPrefix(line, "ok "); ok {
			results = append(results, result{Name: name, OK: true})
		} else if name, ok := strings.CutPrefix(line, "not ok "); ok {
			results = append(results, result{Name: name})
		}
	}
	return results, false
}
