package offload

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"boxrun/netsetup/rules"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// Turn turns off what a device leaves to the next device of a packet: a bridge and the host's end of a veth for packets
// into boxes, the end inside a box for packets out of the box. With Auto this is done only while an uplink of the host has
// the need: each method looks at the uplinks anew.
type Turn struct {
	Device string   `json:"device"`
	PID    int      `json:"pid,omitempty"`  // the init of a box, for a device inside the box
	Veth   string   `json:"veth,omitempty"` // the host's end, for a device inside a box
	Auto   bool     `json:"auto,omitempty"`
	For    []Uplink `json:"for,omitempty"`    // with Auto: the uplinks with the need, as recorded
	Before []string `json:"before,omitempty"` // the features that were on, by the kernel's names
}

// View is the kernel as a Turn sees the kernel.
type View struct {
	Eth   *ethtool.Ethtool
	Need  func() (Need, error)                                  // of the host's uplinks
	Enter func(pid int, do func() error) error                  // runs do in the network of a process
	Veth  func(pid int, device string) (veth string, err error) // the host's end of a device in the network of a process
}

// inside reports whether the device is inside a box.
func (t *Turn) inside() bool { return t.Veth != "" }

func (t *Turn) set() Set {
	if t.inside() {
		return Checksums()
	}
	return Everything()
}

// String names the device, and where the device is.
func (t *Turn) String() string {
	return "offload of " + t.Device + rules.WordsIf(t.inside(), " in the box")
}

// Commands returns what a person would type, by the need as recorded. The commands do not fail to restore what has gone: a
// veth dies with its box.
func (t *Turn) Commands() (up, down []string) {
	if len(t.Before) > 0 && !t.inside() {
		down = []string{t.tool() + t.back() + " 2>/dev/null || true"}
	}
	if t.Auto && len(t.For) == 0 {
		return nil, down
	}
	return []string{t.tool() + t.set().Typed}, down
}

// tool is what a person types before the features.
func (t *Turn) tool() string {
	return rules.WordsIf(t.inside(), "nsenter -t $PID -n ") + "ethtool -K " + t.Device + " "
}

// back turns the features on again, in the words of ethtool(8).
func (t *Turn) back() string { return strings.Join(t.Before, " on ") + " on" }

// RepairCommands returns what a person would type by the need of now, where the device has drifted.
func (t *Turn) RepairCommands(v View) ([]string, error) {
	now := *t
	wanted, err := now.wanted(v)
	if err != nil || !wanted {
		return []string{t.tool() + t.back()}, err
	}
	up, _ := now.Commands()
	return up, nil
}

// wanted reports the need to have the features off by now, and notes for whom.
func (t *Turn) wanted(v View) (bool, error) {
	if !t.Auto {
		return true, nil
	}
	need, err := v.Need()
	t.For = need.In
	if t.inside() {
		t.For = need.Out
	}
	return len(t.For) > 0, err
}

// with calls do with the ethtool of the network of the device. A missing device or process is errGone.
func (t *Turn) with(v View, do func(*ethtool.Ethtool) error) error {
	if !t.inside() {
		return gone(do(v.Eth))
	}
	return gone(v.Enter(t.PID, func() error {
		eth, err := ethtool.NewEthtool()
		if err != nil {
			return fmt.Errorf("opening ethtool: %w", err)
		}
		defer eth.Close()
		return do(eth)
	}))
}

var errGone = errors.New("the device has gone")

func gone(err error) error {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist) {
		return errGone
	}
	return err
}

// read returns the features found by a reader of the set on the device.
func (t *Turn) read(v View, reader func(*ethtool.Ethtool, string) ([]string, error)) (names []string, err error) {
	err = t.with(v, func(eth *ethtool.Ethtool) error {
		names, err = reader(eth, t.Device)
		return err
	})
	return names, err
}

// Record notes only the features asked for. Turning these off drags others off, and turning these on again brings the
// others back. The first process of a box may have turned features off before; in a new device all were on.
func (t *Turn) Record(v View) error {
	wanted, err := t.wanted(v)
	if err != nil || !wanted {
		return err
	}
	reader := t.set().On
	if t.inside() {
		reader = t.set().Changeable
	}
	if t.Before, err = t.read(v, reader); errors.Is(err, errGone) {
		return nil
	}
	return err
}

// Kept returns the features to be off and still on.
func (t *Turn) Kept(v View) (names []string, err error) {
	if wanted, err := t.wanted(v); err != nil || !wanted {
		return nil, err
	}
	if names, err = t.read(v, t.set().Kept); errors.Is(err, errGone) {
		return nil, nil
	}
	return names, err
}

// astray returns the features to be turned off, or with to the features to be turned on again.
func (t *Turn) astray(v View) (names []string, to bool, err error) {
	wanted, err := t.wanted(v)
	if err != nil || !wanted && len(t.Before) == 0 {
		return nil, false, err
	}
	on, err := t.read(v, t.set().On)
	if wanted || err != nil {
		return on, false, err
	}
	return slices.DeleteFunc(slices.Clone(t.Before), func(name string) bool { return slices.Contains(on, name) }), true, nil
}

// Check returns a line where the device is not as it is to be. Check never writes.
func (t *Turn) Check(v View) ([]string, error) {
	names, back, err := t.astray(v)
	switch {
	case errors.Is(err, errGone):
		return []string{t.Device + " is missing, so its offload cannot be off"}, nil
	case err != nil || len(names) == 0:
		return nil, err
	case back:
		return []string{fmt.Sprintf("%v is off, and no uplink needs that any more: %s", t, strings.Join(names, ", "))}, nil
	}
	why := rules.WordsIf(t.Auto, ", and %s needs it off", Names(t.For))
	return []string{fmt.Sprintf("%v is on%s: %s", t, why, strings.Join(names, ", "))}, nil
}

// Ensure leaves on what the device refuses to turn off: most boxes never need such features off. A PID may have come to
// another process since: the box is known by the other end of its veth.
func (t *Turn) Ensure(v View) error {
	names, to, err := t.astray(v)
	if err != nil || len(names) == 0 {
		return err
	}
	if t.inside() {
		if veth, err := v.Veth(t.PID, t.Device); err != nil || veth != t.Veth {
			return err
		}
	}
	return t.with(v, func(eth *ethtool.Ethtool) error { return Change(eth, t.Device, names, to) })
}

// Undo restores what Record noted. A device inside a box goes with the box.
func (t *Turn) Undo(v View) error {
	if len(t.Before) == 0 || t.inside() {
		return nil
	}
	err := t.with(v, func(eth *ethtool.Ethtool) error { return Change(eth, t.Device, t.Before, true) })
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}
