package netsetup

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"boxrun/netsetup/rules"

	"golang.org/x/sys/unix"
)

// Modules are kernel modules. Undo leaves them loaded: the kernel itself loads such modules at the first use, and
// others may be using them by then.
type Modules struct {
	Names  []string `json:"names"`
	Legacy bool     `json:"legacy,omitempty"` // only the legacy backend of iptables needs them
	Absent []string `json:"absent,omitempty"` // modules that were not loaded before
}

func (m *Modules) String() string { return "kernel modules " + strings.Join(m.Names, " ") }

// commands do not fail where the modules are part of the kernel and there is nothing to load.
func (m *Modules) commands() (up, down []string) {
	load := fmt.Sprintf("modprobe -qa %s || true", strings.Join(m.Names, " "))
	if m.Legacy {
		load = "iptables -V | grep -q nf_tables || " + load
	}
	return []string{load}, nil
}

func (m *Modules) record(*Kernel) (err error) {
	m.Absent, err = m.loadable()
	return err
}

func (m *Modules) check(*Kernel) ([]string, error) {
	loadable, err := m.loadable()
	if len(loadable) == 0 || err != nil {
		return nil, err
	}
	return []string{"not loaded: kernel modules " + strings.Join(loadable, " ")}, nil
}

// loadable returns the modules that are needed, not loaded, and on disk. A module built into the kernel is no error,
// nor is a container without modules: whoever needs the module will complain.
func (m *Modules) loadable() ([]string, error) {
	var loadable []string
	for _, name := range m.Names {
		if _, err := os.Stat(filepath.Join("/sys/module", name)); err == nil {
			continue
		}
		found, err := ModuleOnDisk(name)
		if err != nil {
			return nil, err
		}
		if found {
			loadable = append(loadable, name)
		}
	}
	if m.Legacy && len(loadable) > 0 {
		if legacy, err := legacy(v4); !legacy {
			return nil, err
		}
	}
	return loadable, nil
}

// ModuleOnDisk reports whether the running kernel can load a module of the given name.
func ModuleOnDisk(name string) (bool, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false, err
	}
	f, err := os.Open(filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]), "modules.dep"))
	if err != nil {
		return false, ignoreAbsent(err)
	}
	defer f.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		path, _, _ := strings.Cut(lines.Text(), ":")
		base, _, _ := strings.Cut(filepath.Base(path), ".")
		if strings.ReplaceAll(base, "-", "_") == name {
			return true, nil
		}
	}
	return false, lines.Err()
}

func (m *Modules) ensure(*Kernel) error {
	_, err := rules.Run("", "modprobe", append([]string{"-a"}, m.Names...)...)
	return err
}

func (m *Modules) undo(*Kernel) error { return nil }

func (m *Modules) settle() []string {
	if len(m.Absent) == 0 {
		return nil
	}
	line := fmt.Sprintf("kernel modules stay loaded: %s", strings.Join(m.Absent, " "))
	m.Absent = nil
	return []string{line}
}
