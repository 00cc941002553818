set -e
echo '<h1>nginx in a box</h1>' > "$1/var/www/html/index.html"
rm -f "$1/var/www/html/index.nginx-debian.html"
# A service that answers with its name, on ports of a profile that binds the program; other boxes do without it.
cat > "$1/etc/systemd/system/probe.service" <<UNIT
[Unit]
Description=Echo on tcp and udp
ConditionPathExists=/usr/local/bin/probe
[Service]
ExecStart=/usr/local/bin/probe serve box tcp/:7000 tcp/:9000-9010 udp/:5300
[Install]
WantedBy=multi-user.target
UNIT
ln -s ../probe.service "$1/etc/systemd/system/multi-user.target.wants/probe.service"
chroot "$1" useradd --create-home --shell /bin/bash bob
