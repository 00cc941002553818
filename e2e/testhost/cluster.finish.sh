# Installed, and started by the tests that want them.
for unit in pacemaker.service corosync.service logd.service pcsd.service pcsd-ruby.service keepalived.service haproxy.service ssh.service ssh.socket; do
	chroot "$1" systemctl disable -q "$unit" 2> /dev/null || true
done
