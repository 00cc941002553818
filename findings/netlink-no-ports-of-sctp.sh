#!/bin/sh
# github.com/vishvananda/netlink 1.3.1: tracked connections of SCTP have no ports, and a filter by port takes SCTP and finds nothing.
#
# ConntrackTableList reads ports of TCP and UDP alone: a connection of SCTP comes with both ports 0, where the kernel's list has
# them. ConntrackFilter.AddPort checks the protocol, and takes SCTP (and DCCP and UDP-Lite) as one with ports. So a filter for SCTP
# and a port is accepted, ConntrackDeleteFilters deletes nothing by it, returns 0, and no error. By the same filter for UDP the
# connection of UDP beside it goes. Whoever forgets connections after a change of port forwarding leaves those of SCTP on their old way.
#
# Seen with Linux 6.18 and conntrack 1.4.7, in a network namespace of its own. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'END'
module ports
go 1.24
require github.com/vishvananda/netlink v1.3.1
END
cat > main.go <<'END'
package main

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

const port = 5000

func main() {
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
	if err != nil {
		panic(err)
	}
	names := map[uint8]string{17: "udp", 132: "sctp"}
	for _, f := range flows {
		fmt.Printf("%s from port %d to port %d\n", names[f.Forward.Protocol], f.Forward.SrcPort, f.Forward.DstPort)
	}
	for _, protocol := range []uint8{17, 132} {
		var filter netlink.ConntrackFilter
		if err := filter.AddProtocol(protocol); err != nil {
			panic(err)
		}
		if err := filter.AddPort(netlink.ConntrackOrigDstPort, port); err != nil {
			panic(err)
		}
		n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.FAMILY_V4, &filter)
		fmt.Printf("deleted of %s to port %d: %d, error %v\n", names[protocol], port, n, err)
	}
}
END
GOFLAGS=-mod=mod go build -o ports .
echo "$(uname -r), $(conntrack --version)"
unshare -rn sh -euc '
	conntrack -I -t 300 -p udp -s 192.0.2.1 -d 192.0.2.2 --sport 4000 --dport 5000 2> /dev/null
	conntrack -I -t 300 -p sctp -s 192.0.2.1 -d 192.0.2.2 --sport 4000 --dport 5000 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 2> /dev/null
	./ports | sort
	conntrack -L 2> /dev/null | sed -n "s/^\(sctp\|udp\) .* \(dport=5000\) .*/left: \1 \2/p"' > seen
cat seen
cat > expected <<'END'
deleted of sctp to port 5000: 0, error <nil>
deleted of udp to port 5000: 1, error <nil>
sctp from port 0 to port 0
udp from port 4000 to port 5000
left: sctp dport=5000
END
cmp expected seen
