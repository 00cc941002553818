# The first process of a test host: builds what the kernel and an initrd give a real one, then becomes systemd.
# $1 root, $2 hostname, $3 directory for /var, $4 directory of the web box, $5 file for the boot id, $6 shared directory or ""
set -e
mount --bind "$1" "$1"
cd "$1"
mount --bind "$3" var
mount --bind "$4" srv/web
mount -o remount,bind,ro srv/web
[ -z "$6" ] || mount --bind "$6" srv/shared
mount -t proc proc proc
mount --bind "$5" proc/sys/kernel/random/boot_id
cp proc/sys/fs/inotify/max_user_instances "${5%/*}/inotify" # the machine's own is not the host's to change
mount --bind "${5%/*}/inotify" proc/sys/fs/inotify/max_user_instances
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm dev/net
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
while read -r name major minor; do
	mknod -m 666 "dev/$name" c "$major" "$minor"
done <<NODES
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
fuse 10 229
net/tun 10 200
loop-control 10 237
NODES
for i in 0 1 2 3 4 5 6 7; do
	mknod "dev/loop$i" b 7 "$i"
done
hostname "$2"
mkdir -p .machine
pivot_root . .machine
umount -l /.machine
rmdir /.machine
exec env -i container=testhost PATH=/usr/sbin:/usr/bin /sbin/init
