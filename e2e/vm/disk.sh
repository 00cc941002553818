# Makes a disk: $1 the root of the host, $2 that of the web box, $3 a directory with more files, $4 a directory for work,
# $5 the disk. Runs in a mount namespace of its own.
set -e
mkdir "$4/upper" "$4/work" "$4/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$4/upper,workdir=$4/work" "$4/root"
cp -r "$3/." "$4/root"
mkdir -p "$4/root/srv/web"
mount --bind "$2" "$4/root/srv/web"
mke2fs -q -t ext4 -d "$4/root" "$5" 3G
