# A host without systemd: limits are files of the cgroup that Apptainer makes for the box.

limited builtin:hello 64M 0.5 40
check 'a box starts with its limits in its own cgroup' <<'SH'
test "$(cat /proc/1/comm)" = init
boxrun up limited
held 67108864 '50000 100000' 40
boxrun ps --json | jq -e '.[0].usage | .memory_bytes > 100000 and .cpu_seconds > 0.01 and .tasks > 2'
boxrun status limited
SH

limited builtin:hello 96M 0 40
check 'edited limits are written while the box runs' <<'SH'
boxrun up --dry-run limited
says 'mended: resources.memory' boxrun up limited
held 100663296 'max 100000' 40
echo max > "$(cgroup)/pids.max"
boxrun up --dry-run limited > /run/commands
cat /run/commands
bash -e /run/commands
is pids.max 40
answers 8081 > /dev/null
SH

check 'no cgroup is left after down' <<'SH'
old=$(cgroup)
test -d "$old"
boxrun down limited
not test -e "$old"
SH
