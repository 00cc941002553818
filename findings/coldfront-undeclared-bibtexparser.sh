#!/bin/sh
# ColdFront 1.1.7 imports bibtexparser and does not ask for it: doi2bib brings any series, 2.1.0 today, and no URL loads any more.
#
# coldfront.core.publication imports bibtexparser.bibdatabase, a module of the 1.x series that 2.x has not. The package's own
# requirements do not name bibtexparser; it comes by doi2bib 0.4.0, without an upper bound. An install by nothing but the release's
# number, fine on the day it came out, ends today with a portal whose "check" and WSGI workers stop with ModuleNotFoundError, while
# "pip check" finds no fault. bibtexparser<2 beside it mends the install; 1.1.10 asks for bibtexparser>=2.0.1 itself.
#
# Seen with coldfront 1.1.7, Django 4.2.30, doi2bib 0.4.0 and bibtexparser 2.1.0, then 1.4.4, of PyPI. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
pip() { v/bin/pip "$@" --disable-pip-version-check -q; }
pip install coldfront==1.1.7 Django==4.2.30 doi2bib==0.4.0 bibtexparser==2.1.0
pip check && echo "pip check: no fault" > seen
v/bin/coldfront check > out 2>&1 && exit 1
tail -n 1 out >> seen
pip install bibtexparser==1.4.4
v/bin/coldfront check >> seen 2>&1
cat seen
cat > expected <<'END'
pip check: no fault
ModuleNotFoundError: No module named 'bibtexparser.bibdatabase'
System check identified no issues (0 silenced).
END
cmp expected seen
