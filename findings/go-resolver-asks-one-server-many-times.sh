#!/bin/sh
# Go 1.26, package net: a Resolver whose Dial leads to one server asks that server for each server of the host's resolv.conf, twice,
# also after it was refused.
#
# Resolver.Dial is how a program asks a server of its choice; its documentation says that "the host in the address parameter will
# always be a literal IP address". How often it is called depends on the host all the same: the resolver tries each server that
# /etc/resolv.conf names, and all of them "attempts" times (2 by default), as if each Dial led elsewhere (tryOneName in
# net/dnsclient_unix.go). "Connection refused" ends no attempt early. With the three servers that resolv.conf(5) allows, one name
# that a refusing server is asked for costs six packets. Kernels send a refusal to one packet in a second, after the first six
# (icmp_ratelimit of Linux), so the second name waits until its time is over.
#
# Seen: 2 questions with one server in resolv.conf, 6 with three. In network and mount namespaces of its own (unshare of util-linux).
# Fails if that changes.
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
	"context"
	"fmt"
	"net"
	"time"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	asked := 0
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		asked++
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:53") // where nothing listens
	}}
	_, err := r.LookupNS(ctx, ".")
	fmt.Println(asked, "questions, and", err != nil)
}
GO
go version
CGO_ENABLED=0 go build -o ask .
questions() { # SERVER...: with these in resolv.conf
	printf 'nameserver %s\n' "$@" > resolv.conf
	unshare --map-root-user --net --mount sh -ec 'ip link set lo up; mount --bind resolv.conf /etc/resolv.conf; ./ask'
}
one=$(questions 192.0.2.1)
three=$(questions 192.0.2.1 192.0.2.2 192.0.2.3)
echo "one server: $one; three servers: $three"
[ "$one" = "2 questions, and true" ] && [ "$three" = "6 questions, and true" ]
