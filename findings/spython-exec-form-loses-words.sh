#!/bin/sh
# spython 0.3.14: the words of a Dockerfile's ENTRYPOINT in exec form are joined by spaces, unquoted, in the %runscript.
#
# Docker gives ["printf", "%s,", "daemon off;", "b"] to the program as they are. "spython recipe" writes them as one line of shell: a
# word with a space becomes two, and what follows a semicolon never reaches the program. nginx's usual entry point, ["nginx", "-g",
# "daemon off;"], is of the kind. No warning, exit code 0.
#
# Seen with spython 0.3.14 of PyPI: the written script, run by sh, prints "daemon,off," where the Dockerfile's words print
# "daemon off;,b,". Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip install -q --disable-pip-version-check spython==0.3.14
cat > Dockerfile <<'END'
FROM debian:13
ENTRYPOINT ["printf", "%s,", "daemon off;", "b"]
END
v/bin/spython recipe Dockerfile > box.def
sed -n '/^%runscript/,/^%startscript/p' box.def | grep exec > script
cat script
printf '%s\n' 'exec printf %s, daemon off; b "$@"' | cmp - script
sh script > words
cat words
printf 'daemon,off,' | cmp - words
