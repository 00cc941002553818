# Prints all that boxrun may touch on a host, in sections, and leaves everything as it is.
section() { printf '== %s\n' "$*"; }

section links
ip -o -d link show | sed 's/ *[a-z_]*_timer *[0-9.]*//g'
# Link-local addresses are tentative for a second, and their local routes come after.
section addresses
ip -o addr show | sed 's/ tentative//'
section routes
ip -4 route show table all
ip -6 route show table all | grep -v '^local fe80:'
section rules of routing
ip -4 rule show
ip -6 rule show
for link in $(ls /sys/class/net); do
	section "features of $link"
	ethtool -k "$link"
done
for tool in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do
	section "$tool"
	"$tool-save"
done
section nft
# Each table by a program of its own: of iptables' rules nft translates those of the family that it meets first.
nft list tables | sort | while read -r table; do
	nft -s list $table
done
section sysctl
sysctl -a 2> /dev/null
section leases and results
# Without what a look at rules keeps for the next look: that goes with its directory.
find /var/lib/cni /run/boxrun /run/cni -not -name '*.kept-rules' -printf '%p %y %l\n' 2> /dev/null | sort
section files
find /etc /usr/local /var/lib/boxrun /root/.apptainer /run/systemd/network /run/NetworkManager/conf.d -not -path '*/instances/logs*' -printf '%p %y %m %s %l\n' 2> /dev/null | sort
section cgroups
find /sys/fs/cgroup -mindepth 1 -type d | sort
section mounts
cut -d ' ' -f 4- /proc/1/mountinfo | sort
section processes
processes=$(ps -e --no-headers -o ppid:1,args) # in a pipe it could see what is about to become sort, as [sh]
printf '%s\n' "$processes" | grep -v '^1 \[(sd-close)\]' | sort # systemd closes sockets by processes of its own
