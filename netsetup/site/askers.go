package site

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup/small"

	"golang.org/x/sys/unix"
)

// Asker is a program with a DHCP client of the host's on each device, but for the devices that its file leaves out.
type Asker struct {
	Program, File string
	Fix           string // how a person has the program leave out a box's device

	runs   func(root string) (bool, error)
	leaves func(text, device string) bool
}

// Askers returns the running programs with a DHCP client on a port of a bridge. Root is "/".
func Askers(root, device, bridge string) (askers []Asker, err error) {
	for _, a := range []Asker{
		{"dhcpcd", "/etc/dhcpcd.conf", fmt.Sprintf("sed -i '1i denyinterfaces veth* lan-*' /etc/dhcpcd.conf; dhcpcd -k %s; systemctl restart dhcpcd", device),
			dhcpcdRuns, dhcpcdLeaves},
		{"ConnMan", "/etc/connman/main.conf", fmt.Sprintf("add \"NetworkInterfaceBlacklist=vmnet,vboxnet,virbr,ifb,ve-,vb-,veth,%s\" to [General] there; "+
			"systemctl restart connman", bridge), connManRuns, connManLeaves},
	} {
		runs, err := a.runs(root)
		if !runs && err == nil {
			continue
		}
		text, readErr := small.Read(filepath.Join(root, a.File))
		if err := cmp.Or(err, ignoreAbsent(readErr)); err != nil {
			return nil, err
		}
		if !a.leaves(string(text), device) {
			askers = append(askers, a)
		}
	}
	return askers, nil
}

// dhcpcdRuns reports whether a dhcpcd for all devices runs. A dhcpcd for a single device has a file of another name.
func dhcpcdRuns(root string) (bool, error) {
	pid, err := small.Read(filepath.Join(root, "run/dhcpcd/pid"))
	if err != nil {
		return false, ignoreAbsent(err)
	}
	name, err := small.Read(filepath.Join(root, "proc", strings.TrimSpace(string(pid)), "comm"))
	return strings.TrimSpace(string(name)) == "dhcpcd", ignoreAbsent(err)
}

// connManRuns looks for the link of systemd's to a running service.
func connManRuns(root string) (bool, error) {
	var stat unix.Stat_t
	err := unix.Lstat(filepath.Join(root, "run/systemd/units/invocation:connman.service"), &stat)
	return err == nil, ignoreAbsent(err)
}

// dhcpcdLeaves reports whether dhcpcd.conf(5) leaves a device out. A block begins with any of three words and has no end: dhcpcd
// passes these keys over there.
func dhcpcdLeaves(text, device string) bool {
	listed := map[string][]string{}
	for line := range strings.Lines(text) {
		words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n,", r) })
		if len(words) == 0 {
			continue
		}
		if slices.Contains([]string{"interface", "ssid", "profile"}, words[0]) {
			break
		}
		listed[words[0]] = append(listed[words[0]], words[1:]...)
	}
	allowed, denied := listed["allowinterfaces"], listed["denyinterfaces"]
	return len(allowed) > 0 && !fitsAny(allowed, device) || len(denied) > 0 && fitsAny(denied, device)
}

// connManLeaves reports whether connman.conf(5) leaves a device out, by how its name begins.
func connManLeaves(text, device string) bool {
	list := lastOf(readOptions(text), "General", "NetworkInterfaceBlacklist")
	return slices.ContainsFunc(strings.Split(list, ","), func(begin string) bool {
		begin = strings.TrimSpace(begin)
		return begin != "" && strings.HasPrefix(device, begin)
	})
}
