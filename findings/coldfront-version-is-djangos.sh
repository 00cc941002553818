#!/bin/sh
# ColdFront 1.1.10: "coldfront --version" and "coldfront version" print the version of Django.
#
# The command "coldfront" is Django's management utility under another name, and hands both words on to it: an administrator who writes
# down which portal runs, or a script that compares before an upgrade, gets the number of the framework and no word that says so. The
# portal's own number is coldfront.__version__, which "coldfront shell" or Python can tell.
#
# Seen with coldfront 1.1.10 and Django 5.2.19 of PyPI: 5.2.19 twice, and 1.1.10 from the module. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip install -q --disable-pip-version-check coldfront==1.1.10 Django==5.2.19
{
	v/bin/coldfront --version
	v/bin/coldfront version
	v/bin/python -c 'import coldfront; print(coldfront.__version__)'
} > seen
cat seen
printf '5.2.19\n5.2.19\n1.1.10\n' | cmp - seen
