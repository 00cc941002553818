# What the stages and each of their checks have in common.

# As errexit does not see a ! in front: that a command fails, and that nothing comes out of a pipe.
not() { if "$@"; then return 1; fi; }
none() { if grep .; then return 1; fi; }

# says PATTERN COMMAND... wants a command to say something, and shows all that it says.
says() {
	"${@:2}" > /run/said 2>&1
	cat /run/said
	grep -q -- "$1" /run/said
}

# profile NAME IMAGE PORT [MORE] writes a profile of a box that is ready when it answers.
profile() {
	mkdir -p /etc/boxrun/profiles
	cat > "/etc/boxrun/profiles/$1.toml" <<TOML
image = "$2"
[network]
ports = ["$3:80"]
[ready]
timeout = "5m"
http    = ["http://:80/"]
${4:-}
TOML
}

answers() { curl -fsS --max-time 60 "http://127.0.0.1:$1/"; } # PORT

# What follows is about one box, "limited".

limited() { # IMAGE MEMORY CPUS PIDS
	profile limited "$1" 8081 "[resources]
memory = \"$2\"
cpus   = $3
pids   = $4"
}

pid() { jq .state.init.pid /run/boxrun/boxes/limited.json; }

# The cgroup of the whole box, by what the kernel says of its first process: a systemd is in one below.
cgroup() { sed -n 's,^0::\(/.*\),/sys/fs/cgroup\1,p' "/proc/$(pid)/cgroup" | sed 's,/init\.scope$,,'; }

is() { # FILE VALUE
	echo "$1: $(cat "$(cgroup)/$1")"
	test "$(cat "$(cgroup)/$1")" = "$2"
}

in_box() { timeout 300 boxrun exec limited -- "$@"; }

# end UNIT kills it from outside: what is to be ended leaves nothing to whoever would do it inside.
end() { echo 1 > "$(cgroup)/system.slice/$1.service/cgroup.kill"; }

# held MEMORY CPU TASKS wants the box to be held to these, in the kernel's words, and to no swap.
held() {
	cgroup
	is memory.max "$1"
	is memory.swap.max 0
	is cpu.max "$2"
	is pids.max "$3"
}
