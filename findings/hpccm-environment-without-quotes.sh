#!/bin/sh
# hpccm 26.5.0: the primitive "environment" writes values without quotes, so a value of two words is one word in the image.
#
# environment(variables={"A": "two words"}) becomes "export A=two words" in %environment and %post of a Singularity definition, of which
# a shell keeps "two" and takes "words" for the name of another variable, and "ENV A=two words" among several in a Dockerfile. A dollar
# or a quotation mark in a value is written as it is, too. No warning, exit code 0. Quotes within the value, '"two words"', help.
#
# Seen with hpccm 26.5.0 of PyPI: sh, given the %environment, has "two". Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip install -q --disable-pip-version-check hpccm==26.5.0
cat > recipe.py <<'END'
Stage0 += baseimage(image="debian:13", _distro="ubuntu")
Stage0 += environment(variables={"A": "two words"})
END
v/bin/hpccm --recipe recipe.py --format singularity | sed -n '/^%environment/,/^%post/p' | grep export > environment
cat environment
echo 'printf "%s\n" "$A"' >> environment
sh environment | tee seen
echo two | cmp - seen
