# Runs the stage that the kernel's command line names.
exec < /dev/null > /dev/ttyS1 2>&1

# For the checks, as errexit does not see a ! in front: that a command fails, and that nothing comes out of a pipe.
prelude='
not() { if "$@"; then return 1; fi; }
none() { if grep .; then return 1; fi; }
'

# check NAME runs the script on stdin, for at most five minutes, and reports whether it went through.
check() {
	rm -f /run/check.out
	timeout -k 5 "300" bash -euo pipefail -c "$prelude$(cat)" < /dev/null >> /run/check.out 2>&1
	code=$?
	case $code in
	0) echo "ok $1" ;;
	*) echo "not ok $1" && echo "exit code $code" >> /run/check.out ;;
	esac
	sed 's/^/# /' /run/check.out
}

. "/usr/local/lib/stages/$(sed 's/.*stage=\([a-z]*\).*/\1/' /proc/cmdline).sh"
echo done
