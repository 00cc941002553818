#!/bin/sh
# spython 0.3.14: of a definition's %post, one shell script, "spython recipe" makes a RUN of each line.
#
# Apptainer hands %post to one shell. In the Dockerfile that spython writes of the definition, the lines of an "if", of a loop and of a
# here-document are each a RUN of their own: variables and directories of the line before are gone, "RUN if true; then" is no command,
# and the lines of a here-document are run as programs. No warning, exit code 0.
#
# Seen with spython 0.3.14 of PyPI. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip install -q --disable-pip-version-check spython==0.3.14
cat > Singularity <<'END'
Bootstrap: docker
From: debian:13

%post
    name=box
    if [ "$name" = box ]; then
        touch /etc/box
    fi
END
v/bin/spython recipe Singularity | grep ^RUN > seen
cat seen
cat > expected <<'END'
RUN name=box
RUN if [ "$name" = box ]; then
RUN touch /etc/box
RUN fi
END
cmp expected seen
