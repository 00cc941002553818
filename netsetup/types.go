package netsetup

import "net/netip"

// Network is a bridge and the addresses behind the bridge.
type Network struct {
	Bridge  string       // device name, at most 15 characters
	Subnet  netip.Prefix // masked; its first address is the bridge's
	Subnet6 netip.Prefix // the same for IPv6, with 32 bits or more for boxes; zero: without IPv6
	MTU     int          // bytes; 0 leaves the kernel's choice
	Offload bool         // true: turn off tx, rx, sg and gso on the bridge
	Marks   uint32       // the bits of marks that are boxrun's, side by side
	Dir     string       // boxrun's run directory: Dir/cni gets the conflist, Dir/leases/boxrun-BRIDGE the leases
	Others  []string     // lease directories of other networks of host-local on the bridge

	Networkd, NetworkManager bool // which of these managers of devices is installed
}

// Gateway returns the bridge's own address: the first of the subnet.
func (n Network) Gateway() netip.Addr { return n.Subnet.Addr().Next() }

// Name returns the CNI network's name, boxrun-BRIDGE.
func (n Network) Name() string { return "boxrun-" + n.Bridge }

// Port publishes Count consecutive host ports from Host on, as ports of the box from Container on.
type Port struct {
	HostIP    netip.Addr // zero: every address of the host
	Host      uint16
	Container uint16
	Count     uint16 // 1 for a single port
	Proto     string // tcp | udp | sctp
	Only4     bool   // without HostIP: every IPv4 address
}

// Box is what the rules of a box depend on.
type Box struct {
	Name      string       // at most 18 characters of [a-z0-9-]
	Bridge    string       // the device its veth hangs on
	Subnet    netip.Prefix // of the bridge
	Subnet6   netip.Prefix // of the bridge; zero: without IPv6
	Addr      netip.Addr   // its address inside
	Veth      string       // the host's side of its veth
	Offload   bool         // true: turn off tx, rx, sg and gso on Veth
	Ports     []Port
	Others    []string       // lease directories of other networks of host-local on the bridge
	AllowFrom []netip.Prefix // who may reach the ports; empty: anyone
	Metadata  bool           // the box may reach the cloud's service for the data of instances
}
