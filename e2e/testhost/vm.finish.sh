# A kernel of Debian's, with its modules beside it, but without the package's scripts: there is no initrd to build and no boot
# loader to configure.
(
	export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
	kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: *//p')
	cd "$1/tmp"
	apt-get download -q "$kernel"
	dpkg-deb -x ./*.deb kernel
	cp kernel/boot/vmlinuz-* "$1/boot/vmlinuz"
	cp -r kernel/usr/lib/modules "$1/usr/lib/" 2> /dev/null || cp -r kernel/lib/modules "$1/usr/lib/"
	rm -r kernel ./*.deb
)
chroot "$1" depmod "$(ls "$1/usr/lib/modules")"
# The kernel is its own: what a host in namespaces may not do to the machine's is what is looked at here.
rm "$1/etc/sysctl.d/10-coredump-debian.conf" "$1/etc/sysctl.d/50-pid-max.conf"
for unit in systemd-modules-load.service systemd-udev-trigger.service; do
	rm "$1/etc/systemd/system/$unit"
done
