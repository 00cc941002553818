# A host without systemd: limits are files of the cgroup that Apptainer makes for the box.

mkdir -p /etc/boxrun/profiles
profile() { # MEMORY CPUS PIDS
	cat > /etc/boxrun/profiles/small.toml <<TOML
image = "builtin:hello"
[network]
ports = ["8082:80"]
[resources]
memory = "$1"
cpus   = $2
pids   = $3
[ready]
timeout = "3m"
http    = ["http://:80/"]
TOML
}
cat > /run/lib <<'SH'
cgroup() { jq -r .state.cgroup /run/boxrun/boxes/small.json; }
is() { # FILE VALUE
	echo "$1: $(cat "$(cgroup)/$1")"
	test "$(cat "$(cgroup)/$1")" = "$2"
}
SH

profile 64M 0.5 40
check 'a box starts with its limits in its own cgroup' <<'SH'
. /run/lib
test "$(cat /proc/1/comm)" = init
boxrun up small
cgroup
is memory.max 67108864
is memory.swap.max 0
is cpu.max '50000 100000'
is pids.max 40
boxrun ps --json | jq -e '.[0].usage | .memory > 100000 and .cpu > 10000 and .tasks > 2'
boxrun status small
SH

profile 96M 0 40
check 'edited limits are written while the box runs' <<'SH'
. /run/lib
boxrun up --dry-run small
boxrun up small 2>&1 | tee -a /dev/stderr | grep 'mended: resources.memory'
is memory.max 100663296
is cpu.max 'max 100000'
is pids.max 40
echo max > "$(cgroup)/pids.max"
boxrun up --dry-run small > /run/commands
cat /run/commands
bash -e /run/commands
is pids.max 40
curl -fsS -o /dev/null --max-time 20 http://127.0.0.1:8082/
SH

check 'no cgroup is left after down' <<'SH'
. /run/lib
old=$(cgroup)
boxrun down small
not test -e "$old"
SH
