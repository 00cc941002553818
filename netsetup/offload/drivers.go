package offload

// Driver is what is known of a driver, by the name from "ethtool -i".
type Driver struct {
	Name   string
	In     bool   // packets into boxes have to get their checksums before the box
	Out    bool   // packets out of boxes have to have their checksums before the card
	Why    string // for a person
	Source string // who says so
}

// Drivers are the drivers known so far, drivers in need first. A driver that is not listed needs nothing: the kernel itself
// completes a checksum for every device without an offer to do so, and so the host's own packets and the packets of boxes
// meet the same fate.
func Drivers() []Driver {
	const tunnel = "wraps packets whose checksums are yet to be made, and cards below fail to make them inside"
	return []Driver{
		{"vif", true, false, "hands over packets of neighbours on the same machine with their checksums left blank (Xen, EC2's enX0)",
			"drivers/net/xen-netfront.c: XEN_NETRXF_csum_blank becomes CHECKSUM_PARTIAL"},
		{"vxlan", false, true, tunnel,
			"flannel-io/flannel#1279, projectcalico/calico#4865, k3s-io/k3s#5013"},
		{"geneve", false, true, tunnel, "kubeovn/kube-ovn#3045"},
		{"ipip", false, true, tunnel, "projectcalico/calico#7807, cloudnativelabs/kube-router#1436, flatcar/init#26"},
		{"virtio_net", false, false, "hands over packets of neighbours as vif does, but nobody was found who lost packets in containers",
			"kubevirt/kubevirt#16131 leaves checksums to it again"},
		{"ena", false, false, "offers what it does", "drivers/net/ethernet/amazon/ena/ena_netdev.c"},
		{"hv_netvsc", false, false, "offers what it does", "drivers/net/hyperv/netvsc_drv.c"},
		{"vmxnet3", false, false, "spoils checksums inside tunnels, of which vxlan tells", "k3s-io/k3s#5013"},
		{"ib_ipoib", false, false, "offers nothing in connected mode, so that the kernel completes", "drivers/infiniband/ulp/ipoib/ipoib_main.c"},
		{"wireguard", false, false, "completes checksums before it encrypts", "drivers/net/wireguard/send.c"},
		{"tun", false, false, "offers what the program behind it has asked for", "drivers/net/tun.c: TUNSETOFFLOAD"},
		{"veth", false, false, "takes packets to another network of the same kernel", "drivers/net/veth.c"},
	}
}

// driverNamed returns what is known of a driver; the zero Driver for any other.
func driverNamed(name string) Driver {
	for _, d := range Drivers() {
		if d.Name == name {
			return d
		}
	}
	return Driver{}
}
