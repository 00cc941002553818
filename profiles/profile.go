package profiles

import (
	"net/netip"
	"time"

	"boxrun/profiles/amount"
	"boxrun/profiles/port"
)

// Profile describes a box. A Profile returned by Load is valid: names, ports, prefixes and durations are parsed, paths
// are absolute, %i is expanded, and defaults are filled in. Lists and maps are never nil.
//
// The toml tags are the format itself: what is decoded, what "profile show" prints, what the template explains.
type Profile struct {
	Name        string   `json:"name" toml:"-"` // the box's name: the file's name, or NAME-INSTANCE for NAME@INSTANCE
	File        string   `json:"file" toml:"-"` // absolute path of the file, or "builtin:NAME"
	Description string   `json:"description" toml:"description"`
	Image       string   `json:"image" toml:"image"`       // absolute path of a SIF file or directory, or "builtin:hello"
	Hostname    string   `json:"hostname" toml:"hostname"` // never empty: the box's name by default
	DependsOn   []string `json:"depends_on" toml:"depends_on"`

	Network   Network           `json:"network" toml:"network"`
	Storage   Storage           `json:"storage" toml:"storage"`
	Systemd   Systemd           `json:"systemd" toml:"systemd"`
	Resources Resources         `json:"resources" toml:"resources"`
	Security  Security          `json:"security" toml:"security"`
	Ready     Ready             `json:"ready" toml:"ready"`
	Health    Health            `json:"health" toml:"health"`
	Secrets   map[string]string `json:"secrets" toml:"secrets"` // by name, absolute paths of files of the host
	Build     Build             `json:"build" toml:"build"`
	Apptainer Apptainer         `json:"apptainer" toml:"apptainer"`
	Hooks     Hooks             `json:"hooks" toml:"hooks"`
}

// The modes of a box's network.
const (
	BridgeMode = "bridge" // an address of its own behind a bridge of the host
	LANMode    = "lan"    // an address of its own on a network of the host
	HostMode   = "host"   // the host's network
	NoneMode   = "none"   // loopback alone
)

// Network says how a box is connected.
type Network struct {
	Mode      string         `json:"mode" toml:"mode"`
	Bridge    string         `json:"bridge" toml:"bridge"`
	Subnet    netip.Prefix   `json:"subnet" toml:"subnet"`             // masked
	Subnet6   string         `json:"subnet6,omitempty" toml:"subnet6"` // "": no IPv6, "auto", or a masked network
	MTU       int            `json:"mtu" toml:"mtu"`                   // bytes; 0: the MTU of the external interface
	IP        netip.Addr     `json:"ip" toml:"ip"`                     // zero: the next free address
	External  string         `json:"external" toml:"external"`
	Ports     []port.Port    `json:"ports" toml:"ports"`
	AllowFrom []netip.Prefix `json:"allow_from" toml:"allow_from"`
	DNS       []netip.Addr   `json:"dns" toml:"dns"` // empty: the host's upstream servers
	Search    []string       `json:"search" toml:"search"`

	DNSOptions []string `json:"dns_options" toml:"dns_options"` // of resolv.conf; empty: the host's
	Offload    string   `json:"offload" toml:"offload"`         // auto | off | off-out | off-both | keep
	Metadata   string   `json:"metadata" toml:"metadata"`       // deny | allow
	Marks      Marks    `json:"marks" toml:"marks"`

	Parent  string       `json:"parent,omitempty" toml:"parent"`  // device of the host on the LAN; "": of the default route, or no LAN beside the bridge
	Address netip.Prefix `json:"address,omitzero" toml:"address"` // on the LAN; zero: from a DHCP client in the box
	Gateway netip.Addr   `json:"gateway,omitzero" toml:"gateway"` // of Address; zero: none

	Address6 netip.Prefix `json:"address6,omitzero" toml:"address6"` // on the LAN; zero: as the box learns from routers or DHCPv6
	Gateway6 netip.Addr   `json:"gateway6,omitzero" toml:"gateway6"` // of Address6; zero: as the box learns
}

// Storage says where the writes to the box's root go, and which paths of the host the box sees.
type Storage struct {
	Root        string       `json:"root" toml:"root"`                           // tmpfs | read-only | overlay
	Overlay     string       `json:"overlay" toml:"overlay"`                     // absolute path of a directory or image; never empty when Root is overlay
	OverlaySize amount.Bytes `json:"overlay_size,omitempty" toml:"overlay_size"` // of an image; 0: boxrun makes and grows none
	Binds       []Bind       `json:"binds" toml:"binds"`
}

// Bind is a path of the host that is visible inside the box.
type Bind struct {
	Source   string `json:"source"` // absolute
	Target   string `json:"target"` // absolute
	ReadOnly bool   `json:"read_only"`
}

// Systemd holds settings of the systemd inside the box.
type Systemd struct {
	Environment map[string]string `json:"environment" toml:"environment"`
	Mask        []string          `json:"mask" toml:"mask"`
	StopTimeout time.Duration     `json:"stop_timeout" toml:"stop_timeout"`
	Restart     string            `json:"restart" toml:"restart"`
	Journal     string            `json:"journal" toml:"journal"` // box | host
}

// Where the journal of a box is kept.
const (
	BoxJournal  = "box"  // where the image has it
	HostJournal = "host" // beside the journals of the host
)

// Resources limits the whole box. A value of 0 is no limit.
type Resources struct {
	Memory amount.Bytes `json:"memory" toml:"memory"` // the box gets no swap beyond this
	CPUs   float64      `json:"cpus" toml:"cpus"`     // processor time, in processors with two decimals
	PIDs   int          `json:"pids" toml:"pids"`     // processes and threads
}

// Security says how far the box is held apart from the host.
type Security struct {
	Level        string   `json:"level" toml:"level"`               // default | strict | host
	Capabilities []string `json:"capabilities" toml:"capabilities"` // added to the level's, such as CAP_SYS_MODULE
	Devices      []string `json:"devices" toml:"devices"`           // paths below /dev, of directories too
}

// Ready says when the box is up.
type Ready struct {
	Timeout time.Duration `json:"timeout" toml:"timeout"`
	Units   []string      `json:"units" toml:"units"`
	TCP     []uint16      `json:"tcp" toml:"tcp"`
	HTTP    []string      `json:"http" toml:"http"` // URLs; an empty host is the box's address
	Hint    string        `json:"hint" toml:"hint"`
}

// Health says how a box that is up is looked at: whether it still has all that Ready asks for.
type Health struct {
	Interval  time.Duration `json:"interval" toml:"interval"` // from one look to the next; 0: nobody looks
	Timeout   time.Duration `json:"timeout" toml:"timeout"`   // of one look
	Retries   int           `json:"retries" toml:"retries"`   // looks in a row that fail before the box is unhealthy
	Action    string        `json:"action" toml:"action"`     // none | restart
	OnFailure string        `json:"on_failure" toml:"on_failure"`
}

// Build names the source of the image.
type Build struct {
	Definition string `json:"definition" toml:"definition"` // absolute path of a definition file, or "builtin:NAME"
}

// Apptainer holds flags passed through to "apptainer instance start".
type Apptainer struct {
	Args []string `json:"args" toml:"args"`
}

// Hooks are commands run inside the box. Each command is a list with its arguments, and never empty.
type Hooks struct {
	PostUp [][]string `json:"post_up" toml:"post_up"` // in this order, when the box is ready
}
