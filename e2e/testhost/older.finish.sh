# The Apptainer of unstable wants a newer C library than older releases have. Its programs get the one of Debian 13 for
# themselves, with the libraries they are linked with: from a directory of Apptainer's own, which they name inside.
chroot "$1" sh -ec '
	dir=/usr/lib/$(uname -m)-linux-gnu/apptainer
	mkdir /tmp/newer
	cd /tmp/newer
	apt-get download -q apptainer/sid libc6/trixie libseccomp2/trixie libsqlite3-0/trixie
	dpkg-deb -x apptainer_*.deb /
	for deb in lib*.deb; do dpkg-deb -x "$deb" .; done
	for lib in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libseccomp.so.2 libsqlite3.so.0; do
		cp -L "usr/lib/$(uname -m)-linux-gnu/$lib" "$dir/lib/"
	done
	for program in /usr/bin/apptainer "$dir/bin/starter"; do
		patchelf --set-interpreter "$dir/lib/ld-linux-x86-64.so.2" "$program"
		patchelf --force-rpath --set-rpath "$dir/lib" "$program" # for the libraries of its libraries as well
	done
	cd /
	rm -r /tmp/newer
	apptainer version
'
chroot "$1" systemctl disable -q firewalld.service nftables.service NetworkManager.service
