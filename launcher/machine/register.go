package machine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/launcher/list"
	"boxrun/launcher/process"
	"boxrun/netsetup/bus"
	"boxrun/netsetup/small"
)

// Where D-Bus looks for a machined to start, and where machined keeps what machined knows of a machine.
const (
	service = "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service"
	known   = "/run/systemd/machines"
)

// patience is how long machined may take to forget the last start of a box.
const patience = time.Second

// runs reports whether the host's machined runs, or starts when asked: machined is installed, and nobody has masked its unit.
func runs() bool {
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system"} {
		if to, err := os.Readlink(filepath.Join(dir, "systemd-machined.service")); err == nil && to == os.DevNull {
			return false
		}
	}
	return files.Exists(service)
}

// Register has machined know a box that runs. Nothing happens on a host without machined, for a box known already, and
// for a box without a scope of its own: machined ends the scope with the machine.
func Register(ctx context.Context, b *box.Box) error {
	if filepath.Ext(b.Cgroup) != ".scope" || !runs() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ours, err := isKnown(b)
	for err == nil && !ours && files.Exists(filepath.Join(known, b.Name)) {
		if process.Sleep(ctx, 20*time.Millisecond) != nil {
			return errors.New("machined knows another machine of this name")
		}
		ours, err = isKnown(b)
	}
	if err != nil || ours {
		return err
	}
	return register(b)
}

// Wanted reports whether machined should know the box: machined has run on the host, and the box has a scope of its own.
func Wanted(b *box.Box) bool {
	return filepath.Ext(b.Cgroup) == ".scope" && files.Exists(known) && runs()
}

// Drift returns a line where machined should know the box, and does not; none where that is unknown.
func Drift(b *box.Box) []string {
	if !Wanted(b) {
		return nil
	}
	if ours, err := isKnown(b); ours || err != nil {
		return nil
	}
	return []string{"machinectl does not know the box"}
}

// Repair has machined know the box again, and returns the lines of Drift. An error is a line as well: nothing of the box
// depends on machined.
func Repair(ctx context.Context, b *box.Box) []string {
	lines := Drift(b)
	if len(lines) == 0 {
		return nil
	}
	if err := Register(ctx, b); err != nil {
		return []string{fmt.Sprintf("%s, and cannot be told: %v", lines[0], err)}
	}
	return lines
}

// isKnown reports whether machined knows this start of a box.
func isKnown(b *box.Box) (bool, error) {
	text, err := small.Read(filepath.Join(known, b.Name))
	return strings.Contains(string(text), fmt.Sprintf("\nLEADER=%d\n", b.Init.PID)), files.IgnoreNotExist(err)
}

// The object of machined, and the call that registers a machine.
const (
	name   = "org.freedesktop.machine1"
	object = "/org/freedesktop/machine1"
	method = "org.freedesktop.machine1.Manager.RegisterMachine"
)

// Command returns the command that registers a box, once the box runs; none on a host without machined.
func Command(b *box.Box) ([]string, error) {
	if !runs() {
		return nil, nil
	}
	id, err := idOf(b)
	bytes := list.Map(id, func(b byte) string { return strconv.Itoa(int(b)) })
	iface, verb := method[:strings.LastIndexByte(method, '.')], method[strings.LastIndexByte(method, '.')+1:]
	return []string{fmt.Sprintf("busctl call -q %s %s %s %s sayssus %s %d %s boxrun container $(jq .pid %s) ''",
		name, object, iface, verb, b.Name, len(id), strings.Join(bytes, " "), files.Quote(b.Record))}, err
}

// Typed returns the commands to type in place of Repair.
func Typed(b *box.Box) ([]string, error) {
	if len(Drift(b)) == 0 {
		return nil, nil
	}
	return Command(b)
}

// idOf returns the machine id of a box, as bytes.
func idOf(b *box.Box) ([]byte, error) {
	id, err := box.MachineID(b.Name)
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(id)
}

func register(b *box.Box) error {
	id, err := idOf(b)
	if err != nil {
		return err
	}
	var system bus.Bus
	defer system.Close()
	machined, err := system.Start(name)
	if err != nil || machined == nil {
		return err
	}
	return machined.Call(object, nil, method, b.Name, id, "boxrun", "container", uint32(b.Init.PID), "")
}
