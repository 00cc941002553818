package profiles

import (
	"net/netip"
	"path/filepath"
	"time"
)

// Default gives the profile that a file is decoded over. It has no name, file and image; the hostname and the overlay's
// directory follow from the name.
func Default() Profile {
	return Profile{
		DependsOn: []string{},
		Network: Network{
			Mode:      BridgeMode,
			Bridge:    "sbr0",
			Subnet:    netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 22, 0, 0}), 16),
			Ports:     []Port{},
			AllowFrom: []netip.Prefix{},
			DNS:       []netip.Addr{},
			Search:    []string{},
			Offload:   "off",
		},
		Storage: Storage{Root: "tmpfs", Binds: []Bind{}},
		Systemd: Systemd{
			Environment: map[string]string{},
			Mask:        []string{},
			StopTimeout: 120 * time.Second, // more than the 90 s systemd itself gives one unit
			Restart:     "on-failure",
		},
		Ready: Ready{
			Timeout: 90 * time.Second,
			Units:   []string{},
			TCP:     []uint16{},
			HTTP:    []string{},
		},
		Secrets:   map[string]string{},
		Apptainer: Apptainer{Args: []string{}},
		Hooks:     Hooks{PostUp: [][]string{}},
	}
}

// fillNamed sets what is derived from the box's name where the file said nothing.
func (p *Profile) fillNamed() {
	if p.Hostname == "" {
		p.Hostname = p.Name
	}
	if p.Storage.Root == "overlay" && p.Storage.Overlay == "" {
		p.Storage.Overlay = filepath.Join(OwnDir(p.Name), "overlay")
	}
}

// OwnDir gives the directory of the host that holds what a box of that name keeps: its overlay, if the profile names no other,
// and whatever binds from below it the profile has.
func OwnDir(name string) string { return filepath.Join("/var/lib/boxrun", name) }
