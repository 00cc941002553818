# Runs the stage that the kernel's command line names.
exec < /dev/null > /dev/ttyS1 2>&1

lib=/usr/local/lib/stages
. "$lib/lib.sh"

# check NAME runs the script on stdin, for at most ten minutes, and reports whether it went through.
check() {
	rm -f /run/check.out
	timeout -k 5 600 bash -euo pipefail -c ". $lib/lib.sh; $(cat)" < /dev/null >> /run/check.out 2>&1
	code=$?
	case $code in
	0) echo "ok $1" ;;
	*) echo "not ok $1" && echo "exit code $code" >> /run/check.out ;;
	esac
	sed 's/^/# /' /run/check.out
}

. "$lib/$(sed 's/.*stage=\([a-z]*\).*/\1/' /proc/cmdline).sh"
echo done
