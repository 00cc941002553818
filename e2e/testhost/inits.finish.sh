set -e
# The service of each box: it says that it serves, answers on port 7000, and notes an orderly end in /mark, after $1 seconds.
cat > "$1/usr/local/bin/serve" <<'END'
#!/bin/sh
echo "serve: begins" > /dev/console
/usr/local/bin/probe serve box tcp/:7000 &
trap 'kill $!; sleep ${1:-0}; echo stopped > /mark/stopped; exit 0' TERM
while :; do wait; done
END
chmod 755 "$1/usr/local/bin/serve"
case $2 in
init)
	cat > "$1/etc/init.d/serve" <<'END'
#!/bin/sh
### BEGIN INIT INFO
# Provides:          serve
# Required-Start:    $local_fs
# Required-Stop:     $local_fs
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: answers on port 7000
### END INIT INFO
case $1 in
start) start-stop-daemon --start --background --make-pidfile --pidfile /run/serve.pid --startas /usr/local/bin/serve ;;
stop) start-stop-daemon --stop --retry 5 --pidfile /run/serve.pid ;;
esac
END
	chmod 755 "$1/etc/init.d/serve"
	chroot "$1" update-rc.d serve defaults
	;;
openrc-init|init-openrc)
	cat > "$1/etc/init.d/serve" <<'END'
#!/sbin/openrc-run
command=/usr/local/bin/serve
command_background=true
pidfile=/run/serve.pid
END
	chmod 755 "$1/etc/init.d/serve"
	chroot "$1" rc-update add serve default
	;;
runit)
	mkdir -p "$1/etc/sv/serve"
	printf '#!/bin/sh\nexec /usr/local/bin/serve 2\n' > "$1/etc/sv/serve/run"
	chmod 755 "$1/etc/sv/serve/run"
	chroot "$1" ln -s /etc/sv/serve /etc/service/
	;;
finit)
	echo 'service [2345] kill:60 name:serve /usr/local/bin/serve 2 -- answers on port 7000' > "$1/etc/finit.d/serve.conf"
	;;
busybox)
	ln -s ../bin/busybox "$1/sbin/init"
	echo '::respawn:/usr/local/bin/serve' > "$1/etc/inittab"
	;;
s6-svscan)
	mkdir -p "$1/etc/s6/serve"
	printf '#!/bin/sh\nexec s6-svscan /etc/s6\n' > "$1/sbin/init"
	printf '#!/bin/sh\nexec /usr/local/bin/serve\n' > "$1/etc/s6/serve/run"
	chmod 755 "$1/sbin/init" "$1/etc/s6/serve/run"
	;;
esac
