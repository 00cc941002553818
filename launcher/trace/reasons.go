package trace

import (
	"fmt"

	"boxrun/launcher/network"
	"boxrun/netsetup"
	"boxrun/netsetup/offload"
	"boxrun/netsetup/routing"
)

// ordinary reports whether the kernel drops such packets all the time, and nobody misses the packets: a bridge in
// promiscuous mode gets copies of packets for others, programs that capture get copies, segments come twice.
func (j judge) ordinary(d drop) bool {
	switch d.reason {
	case "SKB_CONSUMED", "OTHERHOST", "SOCKET_FILTER", "TCP_OLD_DATA", "TCP_OLD_ACK", "TCP_OLD_SEQUENCE", "TCP_OFOMERGE",
		"TCP_CLOSE", "TCP_RESET", "QUEUE_PURGE":
		return true
	case "NOT_SPECIFIED":
		name := j.symbols.at(d.where)
		return name == "tcp_v4_rcv" || name == "tcp_v6_rcv" // a SYN that came again before the connection was open
	}
	return false
}

// reader returns the command that shows who reads from the device on the way of a packet: the box, or the program behind
// the device that the route leads to.
func (j judge) reader(d drop) string {
	if j.isBox(d.dst) {
		return "boxrun status " + j.Name
	}
	return j.typed(d, "ip route get %s", d.dst.Addr())
}

// sentence says in words why the kernel dropped a packet, and gives the command to mend the cause; "" for none.
func (j judge) sentence(d drop) (text, fix string) {
	src, dst, to := d.src.Addr(), d.dst.Addr(), shown(d.dst)
	device, status := j.deviceOf(d), "boxrun status "+j.Name
	switch d.reason {
	case "NO_SOCKET":
		return j.noSocket(d)
	case "TCP_CSUM", "UDP_CSUM", "IP_CSUM", "ICMP_CSUM", "SKB_CSUM":
		return "its checksum is wrong: left to a network card that did not fill it in, or the packet was damaged", j.offload()
	case "IP_RPFILTER":
		return fmt.Sprintf("rp_filter: it came by %s, and an answer to %s would leave by another interface", device, src),
			j.typed(d, "sysctl -w net.ipv4.conf.%s.rp_filter=2", device)
	case "FULL_RING":
		return "the queue of a device (tun, tap, veth) is full: whoever reads from it does not keep up", j.reader(d)
	case "SOCKET_RCVBUFF", "PROTO_MEM", "SOCKET_BACKLOG", "TCP_ZEROWINDOW":
		return fmt.Sprintf("the program at %s does not read fast enough: its buffer is full", to), status
	case "TCP_LISTEN_OVERFLOW":
		return fmt.Sprintf("the program at %s does not accept connections fast enough: its queue is full", to), status
	case "CPU_BACKLOG":
		return "the host gets more packets than its processors handle", "sysctl -w net.core.netdev_max_backlog=10000"
	case "QDISC_DROP", "QDISC_OVERLIMIT", "QDISC_CONGESTED", "FQ_FLOW_LIMIT", "FQ_BAND_LIMIT", "TC_EGRESS", "TC_INGRESS":
		return "traffic control (tc) drops it, by a queue's limit or a filter", j.typed(d, "tc -s qdisc show")
	case "XDP", "BPF_CGROUP_EGRESS", "SECURITY_HOOK":
		return "a program in the kernel (BPF, or a security module) does not let it pass", "bpftool link show"
	case "PKT_TOO_BIG":
		return "it is larger than the MTU of its way, and must not be cut", network.RepairCommand
	case "IP_OUTNOROUTES", "IP_INNOROUTES", "IP_INADDRERRORS", "IP_INVALID_DEST":
		return fmt.Sprintf("there is no route to %s, or one that forbids it", dst), j.typed(d, "ip route get %s", dst)
	case "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE":
		return fmt.Sprintf("it came from outside with the source %s, which cannot be there", src),
			j.typed(d, "ip addr show to %s", src)
	case "IP_LOCALNET":
		return fmt.Sprintf("127.0.0.0/8 is not let through between %s and the box", device), network.RepairCommand
	case "NEIGH_FAILED", "NEIGH_QUEUEFULL", "NEIGH_DEAD", "NEIGH_CREATEFAIL":
		return fmt.Sprintf("nobody on the wire answers for the way to %s (%s)", dst, map[bool]string{false: "ARP", true: "neighbour discovery"}[dst.Is6()]), j.typed(d, "ip neigh show %s", dst)
	case "BRIDGE_INGRESS_STP_STATE":
		return "the bridge does not forward yet, or never: spanning tree is on",
			fmt.Sprintf("ip link set %s type bridge stp_state 0", j.Profile.Network.Bridge)
	case "NO_TX_TARGET", "DEV_READY":
		return "the bridge or a device has nowhere to send it: a link is down", network.RepairCommand
	case "NOMEM", "PFMEMALLOC":
		return "the host has no memory left for it", "free -h"
	case "NOT_SPECIFIED":
		return "the kernel tells no reason" + j.place(d), ""
	}
	return "the kernel's reason is " + d.reason + j.place(d), ""
}

// place tells in which function of the kernel a packet was dropped, in brackets; "" where the kernel hides functions.
func (j judge) place(d drop) string {
	if name := j.symbols.at(d.where); name != "" {
		return " (in " + name + ")"
	}
	return ""
}

// typed returns a command for the network where a packet was dropped: in the box, or on the host.
func (j judge) typed(d drop, format string, args ...any) string {
	command := fmt.Sprintf(format, args...)
	if d.inBox {
		return fmt.Sprintf("boxrun exec %s -- %s", j.Name, command)
	}
	return command
}

// noSocket tells of a packet to a port without a listener.
func (j judge) noSocket(d drop) (text, fix string) {
	port := fmt.Sprintf("%d/%s", d.dst.Port(), d.proto)
	if !d.inBox && !j.isBox(d.dst) {
		return fmt.Sprintf("nothing listens on %s at %s, and no rule sends it to the box", port, d.dst.Addr()),
			network.RepairCommand
	}
	servers, err := netsetup.Servers(j.Init.PID, []netsetup.Port{{Container: d.dst.Port(), Count: 1, Proto: d.proto}})
	if err == nil && len(servers) > 0 && !servers[0].Serves(d.dst.Addr()) {
		return fmt.Sprintf("%s listens on %s alone in the box, and not on %s", servers[0].By, servers[0].Addr, d.dst),
			fmt.Sprintf("make it listen on %s: \"boxrun shell %s\"", routing.Anyone(d.dst.Addr()), j.Name)
	}
	return fmt.Sprintf("nothing listens on %s in the box", port), "boxrun status " + j.Name
}

// offload returns how to have checksums made before packets reach a device.
func (j judge) offload() string {
	if offload.Mode(j.Profile.Network.Offload).In() {
		return network.RepairCommand
	}
	return fmt.Sprintf("set network.offload = \"off\" in %s, and boxrun restart %s", j.Profile.File, j.Name)
}
