# A box held to what its profile says, on a kernel that has all controllers.

mkdir -p /etc/boxrun/profiles /run/t
profile() { # MEMORY CPUS PIDS
	cat > /etc/boxrun/profiles/limited.toml <<TOML
image = "/srv/web"
[network]
ports = ["8081:80"]
[resources]
memory = "$1"
cpus   = $2
pids   = $3
[ready]
timeout = "3m"
http    = ["http://:80/"]
TOML
}
cat > /run/t/lib <<'SH'
pid() { jq .state.init.pid /run/boxrun/boxes/limited.json; }
scope() { sed -n 's,^0::\(/.*apptainer-[0-9]*\.scope\).*,/sys/fs/cgroup\1,p' "/proc/$(pid)/cgroup"; }
is() { # FILE VALUE
	echo "$1: $(cat "$(scope)/$1")"
	test "$(cat "$(scope)/$1")" = "$2"
}
says() { # PATTERN COMMAND...
	"${@:2}" > /run/t/said 2>&1
	cat /run/t/said
	grep -q -- "$1" /run/t/said
}
in_box() { timeout 60 boxrun exec limited -- "$@"; }
# end UNIT kills it from outside: what is to be ended leaves nothing to whoever would do it inside.
end() { echo 1 > "$(scope)/system.slice/$1.service/cgroup.kill"; }
answers() { curl -fsS -o /dev/null --max-time 20 http://127.0.0.1:8081/; }
SH

profile 256M 0.5 64
check 'a box starts with its limits' <<'SH'
. /run/t/lib
boxrun up limited
is memory.max 268435456
is memory.swap.max 0 || not test -e "$(scope)/memory.swap.max"
is cpu.max '50000 100000'
is pids.max 64
systemctl show "$(basename "$(scope)")" -p MemoryMax -p CPUQuotaPerSecUSec -p TasksMax
SH

check 'ps and status show what the whole box uses' <<'SH'
. /run/t/lib
boxrun ps
boxrun ps --json | jq -e '.[0].usage | .memory > 1000000 and .cpu > 1000000 and .tasks > 3'
says 'memory .* of 256M' boxrun status limited
grep -E 'at most 0.5 CPUs' /run/t/said
grep -E 'tasks .* of 64' /run/t/said
SH

check 'a command run in the box is held to its limits too' <<'SH'
. /run/t/lib
cat "$(scope)/pids.peak"
in_box systemctl show -p TasksMax init.scope nginx.service
in_box cat /proc/self/cgroup | grep "apptainer-.*scope"
SH

check 'a memory hog is killed, and nothing else is' <<'SH'
. /run/t/lib
sleep 1000 &
free -m
init=$(pid)
in_box systemd-run -q --wait --unit hog tail /dev/zero || true
in_box systemctl show hog.service -p Result | grep oom-kill
in_box systemctl reset-failed
cat "$(scope)/memory.events" "$(scope)/memory.peak"
awk '$1 == "oom_kill" && $2 > 0 { found = 1 } END { exit !found }' "$(scope)/memory.events"
test "$(cat "$(scope)/memory.peak")" -le 268435456
test "$(pid)" = "$init"
kill %1
answers
SH

check 'a busy loop has the time of its processors, and no more' <<'SH'
. /run/t/lib
in_box systemd-run -q --unit busy sh -c 'while :; do :; done & while :; do :; done'
usage() { awk '$1 == "usage_usec" { print $2 }' "$(scope)/cpu.stat"; }
from=$(usage) since=$(date +%s%6N)
sleep 10
used=$(($(usage) - from)) took=$(($(date +%s%6N) - since))
echo "$used us of the processors in $took us"
test $((used * 100 / took)) -le 55
test $((used * 100 / took)) -ge 35
end busy
answers
SH

check 'a fork bomb is held to its tasks, and the host goes on' <<'SH'
. /run/t/lib
in_box systemd-run -q --unit bomb -p RuntimeMaxSec=8 bash -c 'while :; do sleep 60 & done'
most=0
for i in 1 2 3 4 5; do
	sleep 1
	now=$(cat "$(scope)/pids.current")
	test "$now" -le "$most" || most=$now
done
echo "at most $most tasks"
cat "$(scope)/pids.events"
test "$most" = 64
awk '$1 == "max" && $2 > 0 { found = 1 } END { exit !found }' "$(scope)/pids.events"
boxrun ps
end bomb
answers
SH

profile 384M 1 0
check 'edited limits change while the box runs' <<'SH'
. /run/t/lib
init=$(pid)
says 'resources.memory: memory.max is "268435456", not "402653184"' boxrun status limited
not grep 'changed since' /run/t/said
boxrun up --dry-run limited
says 'mended: resources.memory' boxrun up limited
test "$(pid)" = "$init"
is memory.max 402653184
is cpu.max '100000 100000'
is pids.max max
says 'network: *in place' boxrun status limited
not grep 'changed since' /run/t/said
says 'nothing to change' boxrun up limited
systemctl daemon-reload
is memory.max 402653184
is memory.swap.max 0
is cpu.max '100000 100000'
says 'nothing to change' boxrun up --replace limited
SH

check 'limits changed by hand are found and put back' <<'SH'
. /run/t/lib
systemctl set-property --runtime "$(basename "$(scope)")" MemoryMax=infinity
is memory.max max
says 'drifted: *resources.memory' boxrun status limited
boxrun up --dry-run limited > /run/t/commands
cat /run/t/commands
says 'mended: resources.memory' boxrun up limited
is memory.max 402653184
systemctl set-property --runtime "$(basename "$(scope)")" MemoryMax=1G
bash -e /run/t/commands
is memory.max 402653184
SH

check 'nothing of the limits is left after down' <<'SH'
. /run/t/lib
boxrun down limited
find /run/systemd /sys/fs/cgroup -name 'apptainer-*' | none
SH
