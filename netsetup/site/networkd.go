package site

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup/small"

	"golang.org/x/sys/unix"
)

// Manages returns the file by which systemd-networkd manages a device. The result is "" for an absent device, for a
// device left alone by networkd, and on a host without networkd. Root is "/".
func Manages(root, device string) (string, error) {
	var index, state []byte
	links := filepath.Join(root, "run/systemd/netif/links")
	err := unix.Access(links, unix.F_OK) // without networkd this is all there is to ask, of each of many boxes
	if err == nil {
		index, err = small.Read(filepath.Join(root, "sys/class/net", device, "ifindex"))
	}
	if err == nil {
		state, err = small.Read(filepath.Join(links, strings.TrimSpace(string(index))))
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) { // sysfs: the device went while it was read
		return "", nil
	}
	if err != nil {
		return "", err
	}
	file := ""
	for line := range strings.Lines(string(state)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "NETWORK_FILE":
			file = value
		case "ADMIN_STATE":
			if value == "unmanaged" {
				return "", nil
			}
		}
	}
	return file, nil
}

// StopsForwarding returns the line, as FILE:NUMBER, by which the host does not forward IPv4 packets from a device: a
// line for systemd-networkd or of sysctl.d(5). The result is "" where no file says so, and somebody has typed the
// setting. Root is "/".
func StopsForwarding(root, device string) (string, error) {
	file, err := Manages(root, device)
	if err != nil {
		return "", err
	}
	byNetworkd, err := networkdStops(root, file)
	if byNetworkd != "" || err != nil {
		return byNetworkd, err
	}
	files, err := filesOf(root, "sysctl.d", ".conf")
	if err != nil {
		return "", err
	}
	last, err := lastSettings(files)
	if err != nil {
		return "", err
	}
	for _, name := range []string{device, "*", "default"} {
		s, said := last[Key("net/ipv4/conf/"+name+"/forwarding")]
		if said && s.value == "0" {
			return s.where, nil
		}
	}
	return "", nil
}

// networkdStops looks into networkd's own configuration, a network file, and the drop-ins of the file in the order of
// names. The last line counts.
func networkdStops(root, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	drops, err := dropIns(root, filepath.Base(file))
	if err != nil {
		return "", err
	}
	files := append([]string{filepath.Join(root, "etc/systemd/networkd.conf"), filepath.Join(root, file)}, drops...)
	stops := ""
	for _, file := range files {
		where, value, err := forwardingLine(file)
		switch {
		case err != nil:
			return "", err
		case slices.Contains([]string{"no", "false", "off", "0", "ipv6"}, value):
			stops = where
		case value != "":
			stops = ""
		}
	}
	return stops, nil
}

// dropIns returns the drop-ins of a network file, by the file's name, in the order of their own names.
func dropIns(root, name string) ([]string, error) {
	var files []string
	for _, dir := range []string{"usr/lib", "run", "etc"} {
		found, err := filepath.Glob(filepath.Join(root, dir, "systemd/network", name+".d/*.conf"))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	slices.SortStableFunc(files, func(a, b string) int { return cmp.Compare(filepath.Base(a), filepath.Base(b)) })
	return files, nil
}

// forwardingLine returns where a file of networkd's says whether to forward IPv4, by the key's present or its older
// name, and what the file says. A file that does not exist says nothing.
func forwardingLine(file string) (where, value string, err error) {
	text, err := small.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		key, said, _ := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); key == "IPv4Forwarding" || key == "IPForward" {
			where, value = fmt.Sprintf("%s:%d", file, number), strings.ToLower(strings.TrimSpace(said))
		}
	}
	return where, value, err
}
