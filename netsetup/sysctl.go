package netsetup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup/routing"
	"boxrun/netsetup/small"
)

// Setting is a sysctl and its value at some time.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Sysctl is a kernel setting and the value to have.
type Sysctl struct {
	Key    string    `json:"key"` // net.ipv4.ip_forward
	Value  string    `json:"value"`
	Drags  []string  `json:"drags,omitempty"`  // paths (* is any device) the kernel resets with this key
	Before []Setting `json:"before,omitempty"` // what undo writes, in this order
	Own    bool      `json:"own,omitempty"`    // nobody but boxrun uses the setting: undo restores it at any time
}

func (s *Sysctl) String() string { return "sysctl " + s.Key }

func (s *Sysctl) commands() (up, down []string) {
	return []string{Setting{s.Key, s.Value}.typed()}, typed(s.Before)
}

func (s Setting) typed() string { return fmt.Sprintf("sysctl -qw %s=%s", s.Key, s.Value) }

// typed returns the commands for settings.
func typed(settings []Setting) []string {
	var lines []string
	for _, s := range settings {
		lines = append(lines, s.typed())
	}
	return lines
}

// record notes nothing where the setting has the value already: then undo has nothing to restore. The key itself comes
// first, as writing the key resets the others.
func (s *Sysctl) record(*Kernel) error {
	s.Before = nil
	old, err := readSysctl(s.Key)
	if err != nil || old == s.Value {
		return ignoreAbsent(err)
	}
	s.Before = []Setting{{s.Key, old}}
	for _, pattern := range s.Drags {
		paths, err := small.Find(pattern)
		if err != nil {
			return err
		}
		for _, path := range paths {
			key := keyOf(path)
			value, err := readSysctl(key)
			if err != nil {
				return err
			}
			s.Before = append(s.Before, Setting{key, value})
		}
	}
	return nil
}

func (s *Sysctl) check(*Kernel) ([]string, error) {
	value, err := readSysctl(s.Key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []string{fmt.Sprintf("sysctl %s does not exist", s.Key)}, nil
	case err != nil || value == s.Value:
		return nil, err
	}
	return []string{fmt.Sprintf("sysctl %s is %s instead of %s", s.Key, value, s.Value)}, nil
}

func (s *Sysctl) ensure(*Kernel) error { return writeSysctl(s.Key, s.Value) }

func (s *Sysctl) undo(*Kernel) error { return restoreSettings(s.Before) }

func (s *Sysctl) settle() []string {
	if s.Own {
		return nil
	}
	lines := stays(s.Before[:min(1, len(s.Before))], s.Value) // the others follow from the first
	s.Before = nil
	return lines
}

// ReversePath is the step from strict reverse path filtering (1) to loose (2), for the devices with strict filtering
// in force. With strict filtering the kernel drops packets that reach a box by another way than the answers take.
type ReversePath struct {
	Before []Setting `json:"before,omitempty"`
}

func (r *ReversePath) String() string { return "sysctl rp_filter" }

// commands look at the value in force: the greater of a device's own value and the value for all devices.
func (r *ReversePath) commands() (up, down []string) {
	up = []string{`for i in all default $(ip -4 route show table all default | grep -o 'dev [^ ]*' | cut -d' ' -f2); do
  case $(sort -n /proc/sys/net/ipv4/conf/{all,$i}/rp_filter | tail -n1) in 1) sysctl -qw net/ipv4/conf/$i/rp_filter=2 ;; esac
done`}
	down = typed(r.Before)
	slices.Reverse(down)
	return up, down
}

func (r *ReversePath) record(k *Kernel) (err error) {
	r.Before, err = r.strict(k)
	return err
}

// strict returns the settings to change, with their values. Writing 2 for all devices loosens each device, so the
// settings after need no change.
func (r *ReversePath) strict(k *Kernel) ([]Setting, error) {
	devices, err := k.defaultDevices()
	if err != nil {
		return nil, err
	}
	var strict []Setting
	all := "0"
	for _, dev := range append([]string{"all", "default"}, devices...) {
		key := deviceKey(dev, "rp_filter")
		value, err := readSysctl(key)
		if err != nil {
			return nil, err
		}
		if max(all, value) == "1" { // a digit each
			strict = append(strict, Setting{key, value})
			value = "2"
		}
		if dev == "all" {
			all = value
		}
	}
	return strict, nil
}

func (r *ReversePath) check(k *Kernel) ([]string, error) {
	strict, err := r.strict(k)
	var drift []string
	for _, s := range strict {
		const format = "sysctl %s is %s, so that strict reverse path filtering is in force"
		drift = append(drift, fmt.Sprintf(format, s.Key, s.Value))
	}
	return drift, err
}

func (r *ReversePath) ensure(k *Kernel) error {
	strict, err := r.strict(k)
	if err != nil {
		return err
	}
	for _, s := range strict {
		if err := writeSysctl(s.Key, "2"); err != nil {
			return err
		}
	}
	return nil
}

func (r *ReversePath) undo(*Kernel) error {
	before := slices.Clone(r.Before)
	slices.Reverse(before)
	return restoreSettings(before)
}

func (r *ReversePath) settle() []string {
	lines := stays(r.Before, "2")
	r.Before = nil
	return lines
}

// defaultDevices returns the devices of the IPv4 default routes of all tables, each once.
func (k *Kernel) defaultDevices() ([]string, error) {
	lists, err := k.readLists(v4)
	if err != nil {
		return nil, err
	}
	var devices []string
	for _, index := range routing.DefaultLinks(lists.Routes, 0) {
		link, err := k.link.LinkByIndex(index)
		if err != nil {
			return nil, fmt.Errorf("looking up the default route's device: %w", err)
		}
		devices = append(devices, link.Attrs().Name)
	}
	return devices, nil
}

// restoreSettings writes back what differs. A device that is gone took its settings along.
func restoreSettings(before []Setting) error {
	var errs []error
	for _, b := range before {
		now, err := readSysctl(b.Key)
		if err == nil && now != b.Value {
			err = writeSysctl(b.Key, b.Value)
		}
		errs = append(errs, ignoreAbsent(err))
	}
	return errors.Join(errs...)
}

func readSysctl(key string) (string, error) {
	b, err := small.Read(procSys(key))
	return strings.TrimSpace(string(b)), err
}

// writeSysctl writes a setting. A missing key is an error, as the file is not created.
func writeSysctl(key, value string) error {
	f, err := os.OpenFile(procSys(key), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n")
	return errors.Join(err, f.Close())
}

// procSys is the file of a setting.
func procSys(key string) string {
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	return filepath.Join("/proc/sys", key)
}

// deviceKey returns the key of an IPv4 setting of a device. "all" and "default" are devices here.
func deviceKey(device, setting string) string {
	return keyOf("/proc/sys/net/ipv4/conf/" + device + "/" + setting)
}

// keyOf returns the setting of a file in the form of sysctl(8): with dots, unless a device has a dot in its name.
func keyOf(path string) string {
	key := strings.TrimPrefix(path, "/proc/sys/")
	if strings.Contains(key, ".") {
		return key
	}
	return strings.ReplaceAll(key, "/", ".")
}
