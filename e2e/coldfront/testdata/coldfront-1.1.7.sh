#!/bin/sh
# coldfront-1.1.7.sh DIR makes coldfront-1.1.7.dump on a host where the box coldfront is up, and empties its database
# before. DIR is where the box sees, as /srv/coldfront/old, what this put there on a machine that reaches PyPI:
#
#   pip install --target DIR coldfront==1.1.7 django-simple-history==3.10.1 'bibtexparser<2'
set -eu
[ -d "$1/coldfront" ]
boxrun exec coldfront -- systemctl stop gunicorn.socket gunicorn coldfrontq
boxrun exec -u postgres coldfront -- dropdb --force coldfront
boxrun exec -u postgres coldfront -- createdb -O coldfront coldfront
for command in "initial_setup --force_overwrite" load_test_data; do
	# shellcheck disable=SC2086 # a command and its options
	boxrun exec -e PYTHONPATH=/srv/coldfront/old coldfront -- coldfront $command
done
boxrun exec -T -u postgres coldfront -- pg_dump -Fc coldfront > coldfront-1.1.7.dump
