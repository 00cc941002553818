set -e
chroot "$1" useradd --create-home --shell /bin/bash bob
mkdir -p -m 700 "$1/root/.ssh" "$1/home/bob/.ssh"
chroot "$1" ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp "$1/root/.ssh/id_ed25519.pub" "$1/home/bob/.ssh/authorized_keys"
chroot "$1" chown -R bob: /home/bob/.ssh
test -s "$1/etc/munge/munge.key"
test -s "$1/etc/postfix/main.cf" || printf 'myhostname = box\nmydestination = $myhostname, localhost\ninet_interfaces = loopback-only\n' > "$1/etc/postfix/main.cf"
