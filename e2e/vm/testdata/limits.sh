# A box held to what its profile says, on a kernel that has all controllers.

limited /srv/web 256M 0.5 64
check 'a box starts with its limits' <<'SH'
boxrun up limited
held 268435456 '50000 100000' 64
systemctl show "$(basename "$(cgroup)")" -p MemoryMax -p CPUQuotaPerSecUSec -p TasksMax
SH

check 'ps and status show what the whole box uses' <<'SH'
boxrun ps
boxrun ps --json | jq -e '.[0].usage | .memory_bytes > 1000000 and .cpu_seconds > 1 and .tasks > 3'
says 'memory .* of 256M' boxrun status limited
grep -E 'at most 0.5 CPUs' /run/said
grep -E 'tasks .* of 64' /run/said
SH

check 'a command run in the box is held to its limits too' <<'SH'
cat "$(cgroup)/pids.peak"
in_box systemctl show -p TasksMax init.scope nginx.service
in_box cat /proc/self/cgroup | grep -x '0::/init.scope' # the root of what the box sees is the box's own cgroup
in_box cat /sys/fs/cgroup/pids.max | grep -x 64
SH

check 'a memory hog is killed, and nothing else is' <<'SH'
sleep 1000 &
free -m
init=$(pid)
in_box systemd-run -q --wait --unit hog tail /dev/zero || true
in_box systemctl show hog.service -p Result | grep oom-kill
in_box systemctl reset-failed
cat "$(cgroup)/memory.events" "$(cgroup)/memory.peak"
awk '$1 == "oom_kill" && $2 > 0 { found = 1 } END { exit !found }' "$(cgroup)/memory.events"
test "$(cat "$(cgroup)/memory.peak")" -le 268435456
test "$(pid)" = "$init"
kill %1
answers 8081 > /dev/null
SH

check 'a busy loop has the time of its processors, and no more' <<'SH'
in_box systemd-run -q --unit busy sh -c 'while :; do :; done & while :; do :; done'
usage() { awk '$1 == "usage_usec" { print $2 }' "$(cgroup)/cpu.stat"; }
from=$(usage) since=$(date +%s%6N)
sleep 10
used=$(($(usage) - from)) took=$(($(date +%s%6N) - since))
echo "$used us of the processors in $took us"
test $((used * 100 / took)) -le 55
test $((used * 100 / took)) -ge 35
end busy
answers 8081 > /dev/null
SH

check 'a fork bomb is held to its tasks, and the host goes on' <<'SH'
in_box systemd-run -q --unit bomb bash -c 'while :; do sleep 600 & done'
for i in $(seq 120); do
	! grep -q 'max [1-9]' "$(cgroup)/pids.events" || break
	sleep 1
done
sleep 3
grep 'max [1-9]' "$(cgroup)/pids.events"
is pids.current 64
is pids.peak 64
boxrun ps
end bomb
answers 8081 > /dev/null
SH

limited /srv/web 384M 1 0
check 'edited limits change while the box runs' <<'SH'
init=$(pid)
says 'limits changed since the start: "boxrun up" sets them' boxrun status limited
not grep 'drifted' /run/said
boxrun status --check limited
says 'profile changed' boxrun ps
boxrun doctor -v limited > /run/doctor || true # without a client, doctor finds other things
grep 'limits changed since the start' /run/doctor
boxrun repair
held 268435456 '50000 100000' 64
boxrun up --dry-run limited
says 'mended: resources.memory' boxrun up limited
test "$(pid)" = "$init"
held 402653184 '100000 100000' max
says 'network: *in place' boxrun status limited
not grep 'changed since' /run/said
says 'nothing to change' boxrun up limited
systemctl daemon-reload
held 402653184 '100000 100000' max
says 'nothing to change' boxrun up --replace limited
SH

check 'limits changed by hand are found and put back' <<'SH'
systemctl set-property --runtime "$(basename "$(cgroup)")" MemoryMax=infinity
is memory.max max
says 'drifted: *resources.memory' boxrun status limited
says 'drifted' boxrun ps
boxrun doctor -v limited > /run/doctor || true
grep 'drifted: resources.memory' /run/doctor
says 'resources.memory: memory.max is' boxrun repair
is memory.max 402653184
systemctl set-property --runtime "$(basename "$(cgroup)")" MemoryMax=infinity
boxrun up --dry-run limited > /run/commands
cat /run/commands
says 'mended: resources.memory' boxrun up limited
is memory.max 402653184
systemctl set-property --runtime "$(basename "$(cgroup)")" MemoryMax=1G
bash -e /run/commands
is memory.max 402653184
SH

check 'nothing of the limits is left after down' <<'SH'
boxrun down limited
find /run/systemd /sys/fs/cgroup -name 'apptainer-*' | none
SH
