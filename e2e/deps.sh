#!/bin/sh
# Installs what building and testing boxrun needs on a Debian, as root; with the word vm what its virtual machine needs
# too, with the word arch the emulators of other architectures, with the word coldfront what the test of the portal does. That
# test itself fetches from Debian's mirrors and PyPI: the image of the portal, and on its host the package debootstrap.
# Quick where all of it is there.
set -eu

# What is there by its command: a machine may have got one from elsewhere.
missing=
need() { # COMMAND PACKAGE...
	command -v "$1" > /dev/null || { shift; missing="$missing $*"; }
}
PATH=/usr/local/go/bin:$PATH:/usr/sbin:/sbin
need git git
need make make
need curl curl ca-certificates
need mmdebstrap mmdebstrap debian-archive-keyring
need ip iproute2
need iptables iptables
need nft nftables
need ethtool ethtool
need conntrack conntrack
need sysctl procps
need strace strace
need gcc gcc libc6-dev # for go test -race
if [ "${1:-}" = vm ]; then
	need qemu-system-x86_64 qemu-system-x86
	need mke2fs e2fsprogs
fi
if [ "${1:-}" = arch ]; then
	need qemu-s390x qemu-user
fi
if [ "${1:-}" = coldfront ]; then
	need chromium chromium fonts-liberation
fi

install() {
	if [ "$(id -u)" != 0 ]; then
		echo "make deps: needs root to install: $*" >&2
		exit 1
	fi
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

if [ -n "$missing" ]; then
	# shellcheck disable=SC2086 # a list of packages
	install $missing
fi

# Any Go since 1.21 fetches the one that go.mod names by itself. Debian 12 has an older one only: there the Go that the module
# proxy holds is unpacked to /usr/local/go.
usable() { command -v go > /dev/null && [ "$(GOTOOLCHAIN=local go version | sed 's/.*go1\.\([0-9]*\).*/\1/')" -ge 21 ]; }
usable && exit
apt-get update -q
case $(apt-cache policy golang-go | sed -n 's/ *Candidate: 2:1\.\([0-9]*\).*/\1/p') in
2[1-9] | [3-9]?)
	install golang-go
	;;
*)
	version=go$(sed -n 's/^toolchain go//p; s/^go //p' go.mod | tail -n 1)
	arch=$(dpkg --print-architecture)
	install unzip
	curl -fsSo /tmp/go.zip "https://proxy.golang.org/golang.org/toolchain/@v/v0.0.1-$version.linux-$arch.zip"
	unzip -q /tmp/go.zip -d /tmp/go.unpacked
	mv "/tmp/go.unpacked/golang.org/toolchain@v0.0.1-$version.linux-$arch" /usr/local/go
	rm -r /tmp/go.zip /tmp/go.unpacked
	chmod -R +x /usr/local/go/bin /usr/local/go/pkg/tool
	;;
esac
