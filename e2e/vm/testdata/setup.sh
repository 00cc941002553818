# The host that fresh.sh has set up, after a reboot, and without the memory controller.

check 'what was set up is there before any boxrun ran' <<'SH'
not test -e /run/boxrun
test "$(sysctl -n net.ipv4.ip_forward)" = 1
test "$(sysctl -n net.ipv4.conf.all.rp_filter)" = 2
test "$(sysctl -n net.ipv4.conf.default.rp_filter)" = 2
grep '^bridge ' /proc/modules
not grep '^br_netfilter ' /proc/modules
not grep -r br_netfilter /etc/modules-load.d
SH

check 'a bridge of that name has no offload, whoever makes it' <<'SH'
ip link add sbr0 type bridge
udevadm settle --timeout 60
ethtool -k sbr0 | grep -E '^(tx-checksumming|scatter-gather|generic-segmentation-offload)' > /run/features
cat /run/features
not grep ': on' /run/features
ip link del sbr0
SH

limited /srv/web 256M 0 0
check 'a memory limit is refused where the kernel has none' <<'SH'
code=0
boxrun up limited > /run/said 2>&1 || code=$?
cat /run/said
test "$code" = 1
grep 'resources.memory: .*no memory controller' /run/said
not test -e /run/boxrun/boxes/limited.json
SH

check 'host reset leaves nothing' <<'SH'
boxrun host reset
find /etc /run /var/lib -iname '*boxrun*' -not -path '/etc/boxrun' | none
iptables-save | { grep -i boxrun || true; } | none
boxrun host show
SH
