#!/bin/sh
# sandbox.sh DIR makes the image as a directory, on a Debian with mmdebstrap, from a Debian mirror ($MIRROR, and
# $SECURITY for its security updates) and PyPI: the same as coldfront.def makes, without Apptainer. As root.
# "apptainer build coldfront.sif DIR" makes a SIF file of it.
set -eu
out=$(realpath -m "$1")
cd "$(dirname "$0")"
export MIRROR="${MIRROR:-http://deb.debian.org/debian}" SECURITY="${SECURITY:-http://deb.debian.org/debian-security}"
# shellcheck disable=SC2016 # the hooks have a $1 of their own
mmdebstrap --variant=minbase --include=ca-certificates \
	--customize-hook='sh ./stage.sh "$1"' \
	--customize-hook='chroot "$1" env -i PATH=/usr/sbin:/usr/bin HOME=/root MIRROR="$MIRROR" SECURITY="$SECURITY" sh /opt/recipe/install.sh' \
	trixie "$out" "deb $MIRROR trixie main"
# mmdebstrap asks for the work of a first boot. This root boots for the first time every time.
: > "$out/etc/machine-id"
