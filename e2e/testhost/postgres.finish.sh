set -e
# What is committed is what tests count: nothing may be lost but by a fault, and nothing needs a locale.
test -x "$1/usr/lib/postgresql/15/bin/postgres"
test -d "$1/var/lib/postgresql/15/main"
