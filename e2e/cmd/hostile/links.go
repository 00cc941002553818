package main

import "os/exec"

// links play with the box's network: addresses and names of the box's own choice, more than anybody reads.
func links() []behaviour {
	return []behaviour{
		{"address-gateway", address("10.22.0.1/16")},
		{"address-host", address("192.0.2.1/24")},
		{"address-loopback", address("127.0.0.53/8")},
		{"address-broadcast", address("10.22.255.255/16")},
		{"address-multicast", sh("ip addr flush dev eth0; ip route add local 224.0.0.9 dev eth0 || true")},
		{"address-none", sh("ip addr flush dev eth0")},
		{"addresses-many", sh("for i in $(seq 250); do echo addr add 10.22.9.$i/16 dev eth0; done | ip -batch -")},
		{"link-down", sh("ip link set eth0 down")},
		{"link-gone", sh("ip link del eth0")},
		{"link-alias", func() error {
			if err := sh("ip link set eth0 down")(); err != nil {
				return err
			}
			return exec.Command("ip", "link", "set", "eth0", "alias", nasty).Run()
		}},
		{"links-many", sh("for i in $(seq 100); do echo link add many$i type veth peer name peer$i; done | ip -batch -")},
		{"routes-many", sh("for i in $(seq 0 7); do for j in $(seq 0 255); do " +
			"echo route add blackhole 198.18.$i.$j; done; done | ip -batch -")},
		{"route-none", sh("ip route flush table main; ip route add blackhole default")},
		{"neighbours", sh("for i in $(seq 250); do " +
			"echo neigh add 10.22.8.$i lladdr 02:00:00:00:00:01 dev eth0; done | ip -batch -")},
		{"mac", sh("ip link set eth0 down; ip link set eth0 address 0a:58:0a:16:00:01; ip link set eth0 up")},
		{"http-endless", sh("systemctl stop nginx; (while :; do head -c 1M /dev/zero; done | nc -lk 80 > /dev/null 2>&1) &")},
		{"http-silent", sh("systemctl stop nginx; nc -lk 80 > /dev/null 2>&1 &")},
	}
}

func address(addr string) func() error {
	return sh("ip addr flush dev eth0; ip addr add " + addr + " dev eth0")
}
