set -e
# The kernel is the machine's: nothing in here may set its sysctls outside net, load its modules or replay its devices.
mkdir -p "$1/etc/sysctl.d"
ln -s /dev/null "$1/etc/sysctl.d/10-coredump-debian.conf"
ln -s /dev/null "$1/etc/sysctl.d/50-pid-max.conf"
for unit in systemd-modules-load.service systemd-udev-trigger.service systemd-binfmt.service systemd-timesyncd.service \
	systemd-pstore.service getty@tty1.service; do
	ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
# Dumps of an idle host are compared: no timer may start things in between.
for timer in apt-daily apt-daily-upgrade dpkg-db-backup fstrim e2scrub_all systemd-tmpfiles-clean; do
	ln -sf /dev/null "$1/etc/systemd/system/$timer.timer"
done
# Somebody to be refused, or to be asked for sudo.
chroot "$1" useradd --create-home --shell /bin/bash alice
echo 'alice ALL=(ALL) NOPASSWD: ALL' > "$1/etc/sudoers.d/alice"
chmod 440 "$1/etc/sudoers.d/alice"
