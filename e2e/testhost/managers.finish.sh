# Installed, and started by the tests that want them.
for unit in networking systemd-resolved netfilter-persistent cloud-init-local cloud-init-main cloud-init-network cloud-init cloud-config cloud-final podman.socket podman podman-auto-update.timer podman-restart; do
	chroot "$1" systemctl disable -q "$unit" 2> /dev/null || true
done
# The package saves rules of the machine that builds the root.
rm -f "$1"/etc/iptables/rules.v?
# A test gives the host its name servers.
rm -f "$1/etc/resolv.conf"
touch "$1/etc/resolv.conf"
