package e2e

import (
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// fullTunnel is a program for VPNs that takes everything the host sends.
type fullTunnel struct {
	name   string
	host   string // script that sets up the host, and writes /root/for-peer, the directory that the peer needs
	peer   string // script that is the peer, with $PWD for its directory
	start  string
	steps  []string // further commands, after which the VPN is up
	stop   string
	inside []string // the host's addresses in the VPN
}

func fullTunnels() []fullTunnel {
	return []fullTunnel{
		{
			name: "wg-quick",
			host: `cd /etc/wireguard; wg genkey > a; wg genkey > b
				printf '[Interface]\nPrivateKey = %s\nAddress = 10.99.0.2/32, fd99::2/128\n[Peer]\nPublicKey = %s\n` +
				`Endpoint = 203.0.113.2:51820\nAllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 1\n' "$(cat a)" "$(wg pubkey < b)" > wg0.conf
				printf '[Interface]\nPrivateKey = %s\nListenPort = 51820\n[Peer]\nPublicKey = %s\nAllowedIPs = 10.99.0.2/32, fd99::2/128\n' ` +
				`"$(cat b)" "$(wg pubkey < a)" > /root/for-peer/wg.conf
				mkdir -p /etc/systemd/system/wg-quick@.service.d
				printf '[Service]\nEnvironment=WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go\n' > /etc/systemd/system/wg-quick@.service.d/user.conf`,
			peer: `wireguard-go wg0 2> /dev/null; wg setconf wg0 wg.conf; ip addr add 10.99.0.1/24 dev wg0; ip addr add fd99::1/64 dev wg0
				ip link set wg0 up mtu 1420; exec sleep infinity`,
			start: "systemctl start wg-quick@wg0", stop: "systemctl stop wg-quick@wg0",
			steps:  []string{"systemctl restart wg-quick@wg0", "ip link del wg0; systemctl stop wg-quick@wg0; wg-quick down wg0 || true; systemctl start wg-quick@wg0"},
			inside: []string{"10.99.0.2", "fd99::2"},
		},
		{
			name: "OpenVPN",
			host: `cd /root/for-peer; for n in peer host; do openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
					-keyout $n.key -out $n.crt -subj /CN=$n; done
				mv host.* /etc/openvpn/client; cp peer.crt /etc/openvpn/client; cd /etc/openvpn/client
				of() { openssl x509 -fingerprint -sha256 -noout -in $1.crt | cut -d = -f 2; }
				of host > /root/for-peer/host
				printf '%s\n' 'dev tun7' 'dev-type tun' 'proto udp' 'remote 203.0.113.2 1194' nobind tls-client 'cert /etc/openvpn/client/host.crt' \
					'key /etc/openvpn/client/host.key' "peer-fingerprint $(of peer)" 'ifconfig 10.98.0.2 10.98.0.1' 'ifconfig-ipv6 fd98::2 fd98::1' \
					'redirect-gateway def1 ipv6' 'keepalive 1 30' 'data-ciphers AES-256-GCM' > full.conf`,
			peer: `exec openvpn --dev tun7 --dev-type tun --proto udp --port 1194 --tls-server --dh none --cert peer.crt --key peer.key \
				--peer-fingerprint "$(cat host)" --ifconfig 10.98.0.1 10.98.0.2 --ifconfig-ipv6 fd98::1 fd98::2 --keepalive 1 30 --data-ciphers AES-256-GCM`,
			start: "systemctl start openvpn-client@full", stop: "systemctl stop openvpn-client@full",
			steps: []string{"systemctl restart openvpn-client@full",
				"systemctl kill -s KILL openvpn-client@full; systemctl restart openvpn-client@full"},
			inside: []string{"10.98.0.2", "fd98::2"},
		},
		{
			name: "strongSwan",
			// strongSwan deprecates its virtual address of IPv6, which the kernel's masquerade passes over then.
			host: `sysctl -qw net.ipv6.conf.default.use_oif_addrs_only=1
				sed -i 's/load = no/load = yes/' /etc/strongswan.d/charon/kernel-libipsec.conf /etc/strongswan.d/charon/bypass-lan.conf
				printf '%s\n' 'charon-systemd { plugins {' 'kernel-libipsec { allow_peer_ts = yes }' 'kernel-netlink { fwmark = !0x42 }' \
					'socket-default { fwmark = 0x42 } } }' > /etc/strongswan.d/zz.conf
				secret='secrets { ike { secret = "of a test" } }'
				printf '%s\n' 'connections { full {' 'version = 2' 'remote_addrs = 203.0.113.2' 'vips = 0.0.0.0,::' 'encap = yes' 'local { auth = psk' 'id = host }' \
					'remote { auth = psk' 'id = peer }' 'children { full {' 'remote_ts = 0.0.0.0/0,::/0' 'start_action = start } } } }' "$secret" > /etc/swanctl/conf.d/full.conf
				printf '%s\n' 'connections { host {' 'version = 2' 'local_addrs = 203.0.113.2' 'pools = four,six' 'encap = yes' 'unique = replace' 'local { auth = psk' 'id = peer }' \
					'remote { auth = psk' 'id = host }' 'children { full {' 'local_ts = 0.0.0.0/0,::/0 } } } }' \
					'pools { four { addrs = 10.97.0.2/32 }' 'six { addrs = fd97::2/128 } }' "$secret" > /root/for-peer/swanctl.conf`,
			peer: `mount --bind swanctl.conf /etc/swanctl/swanctl.conf; mount --bind /dev/null /etc/swanctl/conf.d/full.conf
				ip addr add 10.97.0.1/32 dev lo; ip addr add fd97::1/128 dev lo
				charon-systemd & until swanctl --load-all --noprompt; do sleep 0.1; done; wait`,
			start: "systemctl start strongswan", stop: "systemctl stop strongswan",
			steps:  []string{"systemctl restart strongswan", "systemctl kill -s KILL strongswan; systemctl restart strongswan"},
			inside: []string{"10.97.0.2", "fd97::2"},
		},
	}
}

// borrowed runs the peer in the host's root file system, for its programs, with a /run of its own. $1 is the root, $2 a script.
const borrowed = `cd "$0/root/for-peer"; mount --rbind /dev "$0/dev"; mount -t proc proc "$0/proc"; mount -t tmpfs run "$0/run"
	exec chroot "$0" bash -ec "cd /root/for-peer; $1"`

// VPNs that take everything: those who ask otherwise are answered where they asked, and the box goes by the VPN.
func TestFullTunnels(t *testing.T) {
	if !soak() {
		t.Skip("the host with VPNs: BOXRUN_SOAK=1")
	}
	h := bootHost(t, testhost.NewTunnelled)
	n := h.tunnelEnd()
	n.profile("dual", dualProfile(`"8080:80"`))
	for _, v := range fullTunnels() {
		t.Run(v.name, func(t *testing.T) { tunnel{n.in(t), n.peer}.carries(v) })
	}
}

// carries has a box beside a VPN: first one that nothing mends but up, then an enabled box.
func (n tunnel) carries(v fullTunnel) {
	n.t.Helper()
	n.sh("rm -rf /root/for-peer; mkdir -p /root/for-peer; " + v.host)
	n.background(n.peer, "bash", "-ec", borrowed, n.Root(), v.peer)
	before := n.settings()
	n.must("boxrun", "up", "dual")
	n.sh(v.start)
	n.wait("status beside "+v.name, func() string {
		if got := n.run("boxrun", "status", "dual"); !strings.Contains(got.Stdout, "drifted") {
			return got.String()
		}
		return ""
	})
	n.must("boxrun", "up", "dual")
	for _, s := range append([]string{"up", "boxrun enable dual"}, v.steps...) {
		if s != "up" {
			n.sh(s)
		}
		n.wait(s, func() string { return n.unanswered(v.inside...) })
		n.agree(s)
		n.reach(s, true, "198.51.100.9", "2001:db8:99::9")
	}
	n.bulk(v.inside...)
	n.sh(v.stop)
	n.wait(v.stop, func() string { return n.unanswered() })
	n.agree(v.stop)
	n.must("boxrun", "disable", "dual")
	n.must("boxrun", "down", "dual")
	n.alone("after down", before)
}
