#!/bin/sh
# golang.org/x/sys v0.49.0, Go 1.26: the same comparison of Statfs_t.Type with a magic number builds or not by architecture.
#
# Statfs_t.Type is int64 on amd64, int32 on 386 and arm, uint32 on s390x. The magic numbers are untyped constants. Those below
# 1<<31 (TMPFS_MAGIC) compare everywhere; those above (RAMFS_MAGIC 0x858458f6, BTRFS_SUPER_MAGIC, CIFS, HPFS, ...) do not compile
# where Type is int32: "overflows int32". statfs(2) itself says nothing of the sign. A conversion of the field,
# uint32(fs.Type), compiles and compares right on all of them.
#
# Seen: amd64, arm64, s390x build; 386 and arm fail; all five build with the conversion. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example
go 1.26.0
require golang.org/x/sys v0.49.0
MOD
write() { # EXPRESSION
	cat > main.go <<GO
package main

import "golang.org/x/sys/unix"

func main() {
	var fs unix.Statfs_t
	println($1 == unix.RAMFS_MAGIC, fs.Type == unix.TMPFS_MAGIC)
}
GO
}
builds() { CGO_ENABLED=0 GOOS=linux GOARCH=$1 go build -o /dev/null . 2> "$dir/said"; }
write fs.Type
go mod tidy -e > /dev/null 2>&1
status=0
for arch in amd64 arm64 s390x; do
	builds $arch || { echo "$arch: does not build any more:"; cat said; status=1; }
done
for arch in 386 arm; do
	if builds $arch; then echo "$arch: builds now"; status=1; fi
	grep -q 'RAMFS_MAGIC.*overflows int32' said || { echo "$arch: another error:"; cat said; status=1; }
done
write 'uint32(fs.Type)'
for arch in amd64 arm64 s390x 386 arm; do
	builds $arch || { echo "$arch: does not build with the conversion:"; cat said; status=1; }
done
[ $status = 0 ] && echo "as seen: RAMFS_MAGIC compares with Statfs_t.Type on amd64, arm64, s390x, not on 386, arm"
exit $status
