package profiles

import (
	"net/netip"
	"path/filepath"
	"time"

	"boxrun/profiles/port"
)

// Default returns the profile that a file is decoded over. The name, file and image are empty. The hostname and the
// directory of the overlay are empty too, as fillNamed derives both from the name.
func Default() Profile {
	return Profile{
		DependsOn: []string{},
		Network: Network{
			Mode:      BridgeMode,
			Bridge:    "sbr0",
			Subnet:    netip.MustParsePrefix("10.22.0.0/16"),
			Subnet6:   AutoSubnet6,
			Ports:     []port.Port{},
			AllowFrom: []netip.Prefix{},
			DNS:       []netip.Addr{},
			Search:    []string{},

			DNSOptions: []string{},
			Metadata:   "deny",
			Offload:    "auto",
			Marks:      defaultMarks,
		},
		Storage: Storage{Root: "tmpfs", Binds: []Bind{}},
		Systemd: Systemd{
			Environment: map[string]string{},
			Mask:        []string{},
			StopTimeout: 120 * time.Second, // more than the 90 s systemd itself gives a unit
			Restart:     "on-failure",
			Journal:     BoxJournal,
		},
		Security: Security{Level: DefaultLevel, Capabilities: []string{}, Devices: []string{}},
		Ready: Ready{
			Timeout: 90 * time.Second,
			Units:   []string{},
			TCP:     []uint16{},
			HTTP:    []string{},
		},
		Health:    Health{Timeout: 10 * time.Second, Retries: 1, Action: "none"},
		Secrets:   map[string]string{},
		Apptainer: Apptainer{Args: []string{}},
		Hooks:     Hooks{PostUp: [][]string{}},
	}
}

// fillNamed derives the hostname and the overlay from the box's name, where the file sets neither.
func (p *Profile) fillNamed() {
	if p.Hostname == "" {
		p.Hostname = p.Name
	}
	if p.Storage.Root == "overlay" && p.Storage.Overlay == "" {
		p.Storage.Overlay = filepath.Join(OwnDir(p.Name), "overlay")
		if p.Storage.OverlaySize > 0 {
			p.Storage.Overlay += ".img"
		}
	}
}

// OwnDir returns the directory of the host for the data of the box called name: the overlay, unless the profile names
// another directory, and the sources of any binds below OwnDir.
func OwnDir(name string) string { return filepath.Join("/var/lib/boxrun", name) }
