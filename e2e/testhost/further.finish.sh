# Installed, and started by the tests that want them.
for unit in networking NetworkManager NetworkManager-wait-online bird connman connman-wait-online dhcpcd fail2ban ferm incus.socket incus-user.socket incus-startup keepalived \
	libvirt-guests libvirtd libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket virtlogd virtlogd.socket virtlogd-admin.socket lldpd lxc lxc-net lxc-monitord lxcfs tuned logrotate.timer; do
	chroot "$1" systemctl disable -q "$unit"
done
# They set the machine's sysctls.
rm "$1"/etc/sysctl.d/*-inotify.conf
