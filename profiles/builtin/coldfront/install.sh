# Makes a bare Debian 13 into the box coldfront: run as root in it, from /opt/recipe, by coldfront.def and sandbox.sh
# alike. $MIRROR and $SECURITY are where Debian and its security updates come from.
set -eu
cd /opt/recipe

# Daemons do not start while they are installed. Nobody reads documentation in here, and PostgreSQL compiles no
# queries (jit = off), for which it brings a compiler of 150 MB.
made_policy=
if [ ! -e /usr/sbin/policy-rc.d ]; then
	made_policy=yes
	printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
	chmod 755 /usr/sbin/policy-rc.d
fi
cat > /etc/dpkg/dpkg.cfg.d/lean <<-EXCLUDES
	path-exclude=/usr/share/doc/*
	path-exclude=/usr/share/man/*
	path-exclude=/usr/share/info/*
	path-exclude=/usr/share/locale/*
	path-exclude=/usr/share/i18n/*
	path-exclude=/usr/lib/*/libLLVM*
	path-exclude=/usr/lib/llvm-*
	path-exclude=/usr/lib/*/libz3*
	path-exclude=/usr/lib/postgresql/*/lib/bitcode/*
EXCLUDES
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
cat > /etc/apt/sources.list <<-SOURCES
	deb $MIRROR trixie main
	deb $MIRROR trixie-updates main
	deb $SECURITY trixie-security main
SOURCES

# The data outlives the image, so the numbers its owners have must be those of every later image.
groupadd --system --gid 880 coldfront
useradd --system --uid 880 --gid coldfront --home-dir /srv/coldfront --no-create-home --shell /usr/sbin/nologin coldfront
groupadd --system --gid 881 postgres
useradd --system --uid 881 --gid postgres --home-dir /var/lib/postgresql --no-create-home --shell /bin/bash postgres

# The cluster is made at the first boot: what the package would make has to go to the data.
mkdir -p /etc/postgresql-common
cat > /etc/postgresql-common/createcluster.conf <<-CLUSTER
	create_main_cluster = false
	add_include_dir = 'conf.d'
	ssl = off
CLUSTER
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get upgrade -q -y
apt-get install -q -y --no-install-recommends systemd systemd-sysv dbus iproute2 procps less tzdata openssl \
	nginx postgresql-17 python3-venv python3-setuptools python3-psycopg2 python3-ldap libldap-common python3-cryptography \
	python3-kerberos python3-dbus
# The configuration of a cluster, as Debian's tools want it, without the cluster.
pg_createcluster 17 main
rm -rf /var/lib/postgresql/17 /var/log/postgresql/*
# A private key that everybody who has the image would know.
rm -f /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem

python3 -m venv --system-site-packages /opt/coldfront
if [ -f ca.crt ]; then
	export PIP_CERT=/opt/recipe/ca.crt
fi
if [ -f pip.conf ]; then
	export PIP_CONFIG_FILE=/opt/recipe/pip.conf
fi
# Two packages have no wheel. Debian's setuptools builds them: what pip would fetch for that is in no list.
/opt/coldfront/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
	--no-binary=django-settings-export,django-su --no-build-isolation -r requirements.txt
/opt/coldfront/bin/pip check

cp -R root/. /
chmod 755 /usr/lib/coldfront/prepare /usr/lib/coldfront/setup /usr/local/bin/coldfront /usr/local/bin/coldfront-restore
# ColdFront reads this before the site's own local_settings.py.
ln -s /usr/lib/coldfront/local_settings.py "$(/opt/coldfront/bin/python -c 'import coldfront; print(coldfront.__path__[0])')/config/"
mkdir -p /etc/coldfront /srv/coldfront
rm -f /etc/nginx/sites-enabled/default
systemctl enable -q coldfront-prepare.service coldfront-setup.service gunicorn.socket gunicorn.service coldfrontq.service nginx.service
# Upgrades come with the next image.
systemctl mask -q apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer

# What this image is: where it differs from that of the last boot, migrations run.
{ dpkg-query -W; /opt/coldfront/bin/pip freeze; find root -type f | sort | xargs cat; } | sha256sum | cut -d' ' -f1 > /usr/lib/coldfront/image

apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/*.log /opt/recipe
if [ "$made_policy" ]; then
	rm /usr/sbin/policy-rc.d
fi
: > /etc/machine-id
