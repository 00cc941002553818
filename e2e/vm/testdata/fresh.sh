# A host that boxrun has never been on: nothing that boxes need is loaded or set.

check 'the kernel has nothing loaded that boxes need' <<'SH'
uname -r
lsmod
for module in bridge veth nf_tables nf_conntrack nf_nat overlay br_netfilter; do
	not grep "^$module " /proc/modules
done
test "$(sysctl -n net.ipv4.ip_forward)" = 0
SH

profile hello builtin:hello 8080
check 'hello comes up, answers and goes' <<'SH'
boxrun up hello
answers 8080 | head -n 5
boxrun ps
boxrun down hello
not answers 8080
SH

profile web /srv/web 80 'units = ["nginx.service"]'
check 'a client reaches nginx in a box' <<'SH'
ip netns add client
ip link add eth0 type veth peer name eth0 netns client
ip addr add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip -n client addr add 192.0.2.2/24 dev eth0
ip -n client link set eth0 up
ip -n client link set lo up
boxrun up web
ip netns exec client curl -fsS --max-time 60 http://192.0.2.1/ | grep 'nginx in a box'
boxrun status web
boxrun exec web -- systemd-run -q --wait -p PrivateTmp=yes -p ProtectSystem=strict true
boxrun status web | grep 'systemd: *running'
SH

# The kernel has br_netfilter, as a module: without it there is nothing of /proc/sys/net/bridge.
check 'br_netfilter is not loaded, and not needed: a box reaches its own port and the other box' <<'SH'
modinfo -n br_netfilter
boxrun up hello
boxrun exec web -- curl -fsS --max-time 60 http://192.0.2.1/ | grep 'nginx in a box'
boxrun exec web -- curl -fsS --max-time 60 http://192.0.2.1:8080/ > /dev/null
boxrun exec web -- curl -fsS --max-time 60 http://hello/ > /dev/null
boxrun down hello
not grep '^br_netfilter ' /proc/modules
not test -e /proc/sys/net/bridge
boxrun doctor > /run/said || cat /run/said
grep 'br_netfilter *not loaded, and not needed' /run/said
SH

check 'with br_netfilter, loaded by somebody else, a box reaches the same' <<'SH'
modprobe br_netfilter
test "$(sysctl -n net.bridge.bridge-nf-call-iptables)" = 1
boxrun up hello
boxrun exec web -- curl -fsS --max-time 60 http://192.0.2.1/ | grep 'nginx in a box'
boxrun exec web -- curl -fsS --max-time 60 http://192.0.2.1:8080/ > /dev/null
boxrun exec web -- curl -fsS --max-time 60 http://hello/ > /dev/null
boxrun down hello
ip netns exec client curl -fsS --max-time 60 http://192.0.2.1/ | grep 'nginx in a box'
SH

check 'after down nothing of the box is left' <<'SH'
boxrun down web
not ip link show sbr0
iptables-save | { grep -i boxrun || true; } | none
systemctl list-units --no-legend 'apptainer-*' 'boxrun-*' | none
find /run -name '*boxrun*' | none
SH

check 'boxrun host setup writes its files, once' <<'SH'
sed -i 's/^\[network\]/&\noffload = "off"/' /etc/boxrun/profiles/web.toml
boxrun host setup
ls /etc/sysctl.d/90-boxrun.conf /etc/modules-load.d/boxrun.conf /etc/udev/rules.d/90-boxrun.rules
boxrun host setup 2>&1 | tee -a /dev/stderr | grep 'nothing to change'
SH
