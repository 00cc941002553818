package netsetup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup/rules"

	"github.com/godbus/dbus/v5"
)

// Unmanaged is the step that has a manager of devices leave boxes alone, by a file that the manager reads before the
// files of the site. A manager with a rule for all devices would take the bridge's address away, and each veth off the
// bridge. The manager knows a veth by its name, as the CNI plugin makes names: veth and eight hexadecimal digits.
type Unmanaged struct {
	Manager string   `json:"manager"`           // the name of its unit
	Bridge  string   `json:"bridge"`            // the step is a part of the plan of this bridge, or of this Way
	Way     bool     `json:"way,omitempty"`     // a macvlan device, by which the host reaches boxes on a LAN
	Found   bool     `json:"found,omitempty"`   // somebody else's bridge: only the veths are boxrun's
	Missing []string `json:"missing,omitempty"` // directories that did not exist before, the deepest first
}

// The managers, by the names of their units.
const (
	networkd       = "systemd-networkd"
	networkManager = "NetworkManager"
)

// The names of the files begin with these, and the bridge's name follows. Of networkd's files the first that matches a device
// counts alone: "+" sorts before digits and letters, with which the files of sites begin.
const (
	NetworkdPrefix = "+boxrun-"
	managerPrefix  = "00-boxrun-" // of NetworkManager's files, and once of networkd's
)

// wayPrefix begins what follows a prefix for a way: a bridge with the name of a way has another file.
const wayPrefix = "+"

// UnmanagedWay returns the plan that has the installed managers leave alone the device by which the host reaches boxes on a
// LAN. The plan can be undone without a log.
func UnmanagedWay(device string) Plan {
	steps := unmanaged(Network{Bridge: device}.LookManagers())
	for i := range steps {
		u := &steps[i]
		u.Way = true
		u.Missing = []string{filepath.Dir(u.String())} // an empty directory is nobody's
	}
	return Plan{Owner: rules.MarkPrefix + device, Managers: steps}
}

// UnmanagedWays returns the devices that managers have been told of by UnmanagedWay.
func UnmanagedWays() []string {
	var devices []string
	for _, u := range tracedManagers() {
		if u.Way {
			devices = append(devices, u.Bridge)
		}
	}
	slices.Sort(devices)
	return slices.Compact(devices)
}

// LookManagers notes in n which managers are installed.
func (n Network) LookManagers() Network {
	installed := func(program string) bool {
		_, err := exec.LookPath(program)
		return err == nil
	}
	n.Networkd, n.NetworkManager = installed("networkctl"), installed("NetworkManager")
	return n
}

// unmanaged returns the steps for the installed managers.
func unmanaged(n Network) []Unmanaged {
	var steps []Unmanaged
	if n.Networkd {
		steps = append(steps, Unmanaged{Manager: networkd, Bridge: n.Bridge})
	}
	if n.NetworkManager {
		steps = append(steps, Unmanaged{Manager: networkManager, Bridge: n.Bridge})
	}
	return steps
}

// String returns the path of the file.
func (u *Unmanaged) String() string {
	name := u.Bridge
	if u.Way {
		name = wayPrefix + name
	}
	if u.Manager == networkManager {
		return "/run/NetworkManager/conf.d/" + managerPrefix + name + ".conf"
	}
	return "/run/systemd/network/" + NetworkdPrefix + name + ".network"
}

// older is the path that older boxruns gave the file of networkd's.
func (u *Unmanaged) older() string {
	return strings.Replace(u.String(), NetworkdPrefix, managerPrefix, 1)
}

// text is of the devices by their names: of networkd's files the kind of a device counts besides.
func (u *Unmanaged) text() string {
	kinds, exactly, digit := "bridge veth", "", "[0-9a-f]"
	if u.Manager == networkManager {
		exactly, digit = "=", "?" // NetworkManager knows no ranges
	}
	names := []string{"veth" + strings.Repeat(digit, 8)}
	switch {
	case u.Way:
		kinds, names = "macvlan", []string{exactly + u.Bridge}
	case !u.Found:
		names = append([]string{exactly + u.Bridge}, names...)
	}
	remark := "# Written by boxrun, which removes it with the last box on " + u.Bridge + ".\n"
	if u.Manager == networkManager {
		return remark + fmt.Sprintf("[device-boxrun-%s]\nmatch-device=interface-name:%s\nmanaged=0\n", u.Bridge, strings.Join(names, ",interface-name:"))
	}
	return remark + "[Match]\nKind=" + kinds + "\nName=" + strings.Join(names, " ") + "\n\n[Link]\nUnmanaged=yes\n"
}

// commands reload a manager that runs.
func (u *Unmanaged) commands() (up, down []string) {
	command := "networkctl reload"
	if u.Manager == networkManager {
		command = "nmcli general reload conf"
	}
	reload := fmt.Sprintf("! systemctl -q is-active %s || %s", u.Manager, command)
	up = []string{"mkdir -p " + filepath.Dir(u.String()), fmt.Sprintf("cat > %s <<'EOF'\n%sEOF", u.String(), u.text()), reload}
	down = []string{"rm -f " + u.String()}
	for _, dir := range u.Missing {
		down = append(down, removeEmptyCommand(dir))
	}
	return up, append(down, reload)
}

func (u *Unmanaged) record(k *Kernel) error {
	link, err := k.linkByName(u.Bridge)
	u.Found = !u.Way && link != nil && link.Attrs().Alias != bridgeAlias(u.Bridge)
	u.Missing = nil
	for path := u.String(); absent(filepath.Dir(path), filepath.Base(path)); path = filepath.Dir(path) {
		u.Missing = append(u.Missing, filepath.Dir(path))
	}
	return err
}

// absent reports whether a directory does not exist without boxrun: nothing is there but boxrun's files, or the
// directory for such files.
func absent(dir, name string) bool {
	entries, err := os.ReadDir(dir)
	others := slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return e.Name() != name && !strings.HasPrefix(e.Name(), NetworkdPrefix) && !strings.HasPrefix(e.Name(), managerPrefix)
	})
	return errors.Is(err, fs.ErrNotExist) || len(entries) > 0 && !others
}

func (u *Unmanaged) check(*Kernel) ([]string, error) {
	return checkText(u.String(), u.text())
}

func (u *Unmanaged) ensure(k *Kernel) error {
	if err := os.MkdirAll(filepath.Dir(u.String()), 0o755); err != nil {
		return err
	}
	if err := writeWhole(u.String(), u.temp(), u.text()); err != nil {
		return err
	}
	return u.reload(k)
}

// temp is the path of the temporary file. Managers go by the ends of names, and pass the temporary file over.
func (u *Unmanaged) temp() string { return u.String() + ".new" }

// undo removes the file, and directories made for the file. Without the file the manager has nothing to forget.
func (u *Unmanaged) undo(k *Kernel) error {
	err := ignoreAbsent(os.Remove(u.temp()))
	removed := os.Remove(u.String())
	if u.older() != u.String() {
		err = errors.Join(err, ignoreAbsent(os.Remove(u.older())))
	}
	err = errors.Join(err, removeEmpty(u.Missing...))
	if removed == nil {
		removed = u.reload(k)
	}
	return errors.Join(err, ignoreAbsent(removed))
}

// reload makes a running manager read its files. An older manager knows no such call: its next start reads the files.
func (u *Unmanaged) reload(k *Kernel) error {
	name, path, method, args := "org.freedesktop.network1", "/org/freedesktop/network1", ".Manager.Reload", []any{}
	if u.Manager == networkManager {
		const configuration = uint32(1) // not name servers, which a plain reload writes anew
		name, path, method, args = "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager", ".Reload", []any{configuration}
	}
	service, err := k.bus.Find(name)
	if service == nil || err != nil {
		return err
	}
	err = service.Call(path, nil, name+method, args...)
	var e dbus.Error
	if errors.As(err, &e) && e.Name == "org.freedesktop.DBus.Error.UnknownMethod" {
		return nil
	}
	return err
}

// tracedManagers returns the steps with a file. An empty directory is nobody's, and goes with the file.
func tracedManagers() []Unmanaged {
	var found []Unmanaged
	for _, u := range unmanaged(Network{Bridge: "*", Networkd: true, NetworkManager: true}) {
		before, after, _ := strings.Cut(u.String(), "*")
		files, _ := filepath.Glob(u.String()) // a fixed pattern is never malformed
		for _, file := range files {
			name := strings.TrimSuffix(strings.TrimPrefix(file, before), after)
			u.Bridge, u.Way = strings.CutPrefix(name, wayPrefix)
			u.Missing = []string{filepath.Dir(file)}
			found = append(found, u)
		}
	}
	return found
}
