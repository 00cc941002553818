#!/bin/sh
# hpccm 26.5.0: the quotation marks of a "runscript" reach the program in the Docker image, and the shell in the Singularity image.
#
# runscript(commands=['nginx -g "daemon off;"']) is one line of shell in a Singularity definition, where the shell takes the marks away.
# For a Dockerfile, hpccm splits the same line into the words of an ENTRYPOINT in exec form and puts single quotation marks around the
# word with the space: exec form has no shell, so the program is given the marks. One recipe, two commands. No warning, exit code 0.
#
# Seen with hpccm 26.5.0 of PyPI. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip install -q --disable-pip-version-check hpccm==26.5.0
cat > recipe.py <<'END'
Stage0 += baseimage(image="debian:13", _distro="ubuntu")
Stage0 += runscript(commands=['nginx -g "daemon off;"'])
END
for format in singularity docker; do
	v/bin/hpccm --recipe recipe.py --format "$format" | grep nginx
done > seen
cat seen
cat > expected <<'END'
    exec nginx -g "daemon off;" "$@"
ENTRYPOINT ["nginx", "-g", "'daemon off;'"]
END
cmp expected seen
