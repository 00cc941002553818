#!/bin/sh
# Go 1.26, package net: IPConn.Read of IPv4 returns a packet with its IP header, and ReadFrom of the same packet without.
#
# The documentation says of the two that they implement Conn's and PacketConn's methods, and nothing of a header. On a raw socket of
# IPv4 the kernel hands over the header. ReadFrom and ReadFromIP take it off (stripIPv4Header in net/iprawsock_posix.go); Read is
# that of every connection, and so is ReadMsgIP's, whose documentation speaks of "the payload". Whoever changes from a connected
# socket to one for many peers finds each field 20 bytes earlier. Of IPv6 the kernel hands over no header, and all are alike.
#
# Two packets of four bytes over the loopback device, in a network namespace of its own (unshare of util-linux). Fails if that
# changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example
go 1.26.0
MOD
cat > main.go <<'GO'
package main

import (
	"fmt"
	"net"
)

func main() {
	for _, c := range []struct{ network, addr string }{{"ip4:253", "127.0.0.1"}, {"ip6:253", "::1"}} { // a number for experiments (RFC 3692)
		own := &net.IPAddr{IP: net.ParseIP(c.addr)}
		for _, read := range []struct {
			name string
			from func(*net.IPConn, []byte) (int, error)
		}{
			{"Read", func(l *net.IPConn, b []byte) (int, error) { return l.Read(b) }},
			{"ReadFrom", func(l *net.IPConn, b []byte) (int, error) { n, _, err := l.ReadFrom(b); return n, err }},
			{"ReadMsgIP", func(l *net.IPConn, b []byte) (int, error) { n, _, _, _, err := l.ReadMsgIP(b, nil); return n, err }},
		} {
			l, err := net.ListenIP(c.network, own)
			if err != nil {
				panic(err)
			}
			if _, err := l.WriteTo([]byte("four"), own); err != nil {
				panic(err)
			}
			b := make([]byte, 100)
			n, err := read.from(l, b)
			if err != nil {
				panic(err)
			}
			fmt.Printf("%s %s: %d bytes, the last four %q\n", c.network, read.name, n, b[n-4:n])
			l.Close()
		}
	}
}
GO
go version
go build -o read .
unshare --map-root-user --net sh -ec 'ip link set lo up; ./read' > seen
cat seen
cat > expected <<'TXT'
ip4:253 Read: 24 bytes, the last four "four"
ip4:253 ReadFrom: 4 bytes, the last four "four"
ip4:253 ReadMsgIP: 24 bytes, the last four "four"
ip6:253 Read: 4 bytes, the last four "four"
ip6:253 ReadFrom: 4 bytes, the last four "four"
ip6:253 ReadMsgIP: 4 bytes, the last four "four"
TXT
cmp seen expected
