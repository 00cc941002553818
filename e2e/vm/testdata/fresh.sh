# A host that boxrun has never been on: nothing that boxes need is loaded or set.

check 'the kernel has nothing loaded that boxes need' <<'SH'
uname -r
lsmod
for module in bridge veth nf_tables nf_conntrack nf_nat overlay; do
	not grep "^$module " /proc/modules
done
test "$(sysctl -n net.ipv4.ip_forward)" = 0
SH

mkdir -p /etc/boxrun/profiles
cat > /etc/boxrun/profiles/hello.toml <<'TOML'
image = "builtin:hello"
[network]
ports = ["8080:80"]
[ready]
timeout = "3m"
http    = ["http://:80/"]
TOML

check 'hello comes up, answers and goes' <<'SH'
boxrun up hello
curl -fsS --max-time 10 http://127.0.0.1:8080/ | head -n 5
boxrun ps
boxrun down hello
not curl -fsS --max-time 2 http://127.0.0.1:8080/
SH

cat > /etc/boxrun/profiles/web.toml <<'TOML'
image = "/srv/web"
[network]
ports = ["80"]
[ready]
timeout = "3m"
units   = ["nginx.service"]
http    = ["http://:80/"]
TOML

check 'a client reaches nginx in a box' <<'SH'
ip netns add client
ip link add eth0 type veth peer name eth0 netns client
ip addr add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip -n client addr add 192.0.2.2/24 dev eth0
ip -n client link set eth0 up
ip -n client link set lo up
boxrun up web
ip netns exec client curl -fsS --max-time 10 http://192.0.2.1/ | grep 'nginx in a box'
boxrun status web
boxrun exec web -- systemd-run -q --wait -p PrivateTmp=yes -p ProtectSystem=strict true
boxrun status web | grep 'systemd: *running'
SH

check 'after down nothing of the box is left' <<'SH'
boxrun down web
not ip link show sbr0
iptables-save | { grep -i boxrun || true; } | none
systemctl list-units --no-legend 'apptainer-*' 'boxrun-*' | none
find /run -name '*boxrun*' | none
SH

check 'boxrun host setup writes its files, once' <<'SH'
boxrun host setup
ls /etc/sysctl.d/90-boxrun.conf /etc/modules-load.d/boxrun.conf /etc/udev/rules.d/90-boxrun.rules
boxrun host setup 2>&1 | tee -a /dev/stderr | grep 'nothing to change'
SH
