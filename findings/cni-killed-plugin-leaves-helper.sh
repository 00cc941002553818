#!/bin/sh
# github.com/containernetworking/cni v1.3.0 with plugins v1.9.1: a caller of libcni whose time for a plugin is over has the plugin
# killed, and gets its error. The IPAM plugin that the plugin has started lives on, and gives the address all the same.
#
# pkg/invoke runs a plugin with exec.CommandContext, which kills that process alone, and the plugin runs host-local by the same
# code with a context that never ends. host-local waits for the lock of its directory without a limit. When the lock is free, after
# the caller may have asked for DEL as well, host-local writes the lease of a container that never came to be. Nobody removes it.
#
# Seen: AddNetwork of the plugin bridge fails after 1 s with "signal: killed" while somebody holds the lock; there is no lease.
# host-local is still there, and as soon as the lock is free, so is the lease. In a network namespace of its own. Fails if that
# changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir bin conf leases
export GOBIN="$dir/bin" GOFLAGS=-mod=mod
go install github.com/containernetworking/plugins/plugins/main/bridge@v1.9.1
go install github.com/containernetworking/plugins/plugins/ipam/host-local@v1.9.1
cat > go.mod <<EOF
module finding
go 1.24
require github.com/containernetworking/cni v1.3.0
EOF
cat > main.go <<'EOF'
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
)

// leases tells how many addresses are given, within a second at most if there have to be some.
func leases(wanted int) (n int) {
	for range 100 {
		files, _ := os.ReadDir("leases/net")
		n = 0
		for _, f := range files {
			if strings.HasPrefix(f.Name(), "10.") {
				n++
			}
		}
		if n == wanted {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return n
}

func main() {
	dir, _ := os.Getwd()
	if err := os.MkdirAll("leases/net", 0o755); err != nil {
		panic(err)
	}
	lock, err := os.Create("leases/net/lock")
	if err != nil {
		panic(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		panic(err)
	}
	list, err := libcni.ConfListFromBytes([]byte(`{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge", "bridge": "f0",
		"ipam": {"type": "host-local", "dataDir": "` + dir + `/leases", "ranges": [[{"subnet": "10.9.0.0/24"}]]}}]}`))
	if err != nil {
		panic(err)
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{dir + "/bin"}, dir+"/cache", nil)
	rt := &libcni.RuntimeConf{ContainerID: "box", NetNS: os.Args[1], IfName: "eth0"}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = cni.AddNetworkList(ctx, list, rt)
	fmt.Println(err)
	fmt.Println(leases(0))
	lock.Close()
	fmt.Println(leases(1))
}
EOF
go mod tidy > /dev/null 2>&1
go build -o finding .
got=$(unshare -rnm sh -ec 'sleep 60 < /dev/null > /dev/null 2>&1 & box=$!; ./finding /proc/$box/ns/net; kill $box')
want='plugin type="bridge" failed (add): netplugin failed with no error message: signal: killed
0
1'
[ "$got" = "$want" ] || { echo "got '$got', want '$want'"; exit 1; }
echo "as seen"
