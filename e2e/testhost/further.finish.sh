# Installed, and started by the tests that want them.
for unit in networking NetworkManager NetworkManager-wait-online bird connman connman-wait-online dhcpcd keepalived libvirt-guests libvirtd libvirtd.socket libvirtd-ro.socket \
	libvirtd-admin.socket virtlogd virtlogd.socket virtlogd-admin.socket tuned logrotate.timer; do
	chroot "$1" systemctl disable -q "$unit" 2> /dev/null
done
