// Command hostile plays root in a box who means harm to boxrun: a behaviour for each name. No behaviour does harm to
// the machine: each is bounded in time and size. Begin reading at behaviours.
//
//	hostile list                        print the names of all behaviours
//	hostile play NAME                   play a behaviour: returns when the behaviour is on, and leaves the behaviour on
//	hostile silent DIRECTORY            mount a file system of the host in which every look waits, and stay
//	hostile measure SECONDS COMMAND...  run a command of the host, and print what the command used
//
// As /sbin/init of a box hostile plays an init: /etc/hostile has the name of the behaviour.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// lasting is how long a behaviour goes on.
const lasting = 3 * time.Minute

// nasty is text to harm a terminal: to clear the screen, name the window, forge a line, write backwards.
const nasty = "\x1b[2J\x1b]0;owned\x07\rboxrun: forged\x7f\u009b2J\u202egnp\x9b"

// A behaviour is on when play has returned nil. What play has started goes on.
type behaviour struct {
	name string
	play func() error
}

func behaviours() []behaviour {
	return slices.Concat(files(), sockets(), journals(), mounts(), links(), processes(), trees())
}

func main() {
	if os.Getpid() == 1 {
		playInit()
	}
	if os.Args[0] == entering {
		playEntered()
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "list":
		for _, b := range behaviours() {
			fmt.Println(b.name)
		}
		return nil
	case len(args) == 2 && args[0] == "play":
		return detached(args[1])
	case len(args) == 2 && args[0] == "go-on":
		return goOn(args[1])
	case len(args) == 2 && args[0] == "silent":
		return silent(args[1])
	case len(args) > 2 && args[0] == "measure":
		return measure(args[1], args[2:])
	}
	return fmt.Errorf("unknown arguments %q", args)
}

// detached plays a behaviour in a process of a session of its own, and returns when the behaviour is on.
func detached(name string) error {
	cmd := exec.Command("/proc/self/exe", "go-on", name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	text, err := io.ReadAll(said)
	if err != nil {
		return err
	}
	if string(text) != "on\n" {
		return fmt.Errorf("%s: %s", name, strings.TrimSpace(string(text)))
	}
	return nil
}

// goOn plays a behaviour, says so by closing standard output, and waits until the behaviour is over.
func goOn(name string) error {
	i := slices.IndexFunc(behaviours(), func(b behaviour) bool { return b.name == name })
	if i < 0 {
		fmt.Println("no such behaviour")
		return nil
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !strings.Contains(string(mounts), " /usr/local/bin/hostile ") {
		fmt.Println("this is no box with a bind of this program: a behaviour would harm the host")
		return nil
	}
	if err := behaviours()[i].play(); err != nil {
		fmt.Println(err)
		return nil
	}
	fmt.Println("on")
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		os.Stdout.Close()
	} else if err := syscall.Dup3(int(null.Fd()), 1, 0); err != nil {
		return err
	}
	time.Sleep(lasting)
	return nil
}

// forever calls act again and again, for as long as a behaviour lasts.
func forever(pause time.Duration, act func()) {
	go func() {
		for end := time.Now().Add(lasting); time.Now().Before(end); time.Sleep(pause) {
			act()
		}
	}()
}

// sh returns a behaviour played by a script of the box.
func sh(script string) func() error {
	return func() error {
		out, err := exec.Command("/bin/bash", "-ec", script).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}
