#!/bin/sh
# Apptainer 1.4.5: an exec that meets an instance whose init has just ended leaves a cgroup named "apptainer-PID.scope (deleted)".
#
# Of a process that waits to be reaped, in a cgroup that is gone, the kernel says the cgroup's path with " (deleted)" behind, in
# /proc/PID/cgroup (proc_cgroup_show in kernel/cgroup/cgroup.c). pidToPath in internal/pkg/cgroups/util.go takes that line for a
# path; AddProc, called by prepareInstanceJoinConfig before any namespace is joined, has CreateCgroupPath of opencontainers' fs2
# make what is missing of the path, suffix and all. The join then fails, as the init has no namespaces any more, and the directory
# stays: the host's systemd knows no unit of that name, and the end of the instance removes the name without the suffix.
# Between the end of the init and its reaping lie some milliseconds; here Apptainer's own process is stopped for as long.
#
# Run as root, on a host with systemd, cgroups of version 2, Apptainer and jq. Seen with Apptainer 1.4.5, systemd 257, Linux 6.18.
# Fails if that changes.
set -eu
dir=$(mktemp -d)
export HOME="$dir"
trap 'rm -rf "$dir"' EXIT
image=$dir/image
mkdir -p "$image/bin" "$image/sbin" "$image/dev" "$image/proc" "$image/sys" "$image/tmp" "$image/etc" "$image/root"
cp -L /bin/sh /bin/sleep "$image/bin/"
for lib in $(ldd /bin/sh /bin/sleep | grep -o '/[^ ]*\.so[^ ]*' | sort -u); do
	mkdir -p "$image${lib%/*}"
	cp -L "$lib" "$image$lib"
done
printf '#!/bin/sh\nexec sleep infinity\n' > "$image/sbin/init"
chmod 755 "$image/sbin/init"
apptainer -s instance start --boot --net --network none "$image" ended
record=$(find "$dir/.apptainer" -name ended.json)
init=$(jq .pid "$record")
master=$(jq .ppid "$record")
scope=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$init/cgroup")
kill -STOP "$master" # nobody reaps the init
kill -KILL "$init"
while [ -d "$scope" ]; do sleep 0.1; done
if apptainer -s exec instance://ended sleep 0; then
	echo "entered an instance whose init has ended"
	exit 1
fi
kill -CONT "$master"
while [ -d "/proc/$master" ]; do sleep 0.1; done
rmdir "$scope (deleted)" || { echo "no cgroup $scope (deleted)"; exit 1; }
echo "as seen"
