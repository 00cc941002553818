# Installed, and started by the tests that want them.
for unit in firewalld.service docker.service docker.socket containerd.service ufw.service nftables.service NetworkManager.service; do
	chroot "$1" systemctl disable -q "$unit"
done
